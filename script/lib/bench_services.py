"""`script/bench services`: databases from a cached image, their memory, their backups.

What Staithe adds is told by doing the same by hand in the same run: the image's own `initdb`,
`pg_dump` and `pg_restore`, in turns with ours, on the same server and the same rows.
"""

import contextlib
import glob
import os
import statistics
import subprocess
import sys
import time

import bench
from bench import SCRATCH, machine, settled, staithe

TEMPLATE = f"{SCRATCH}/template-services"
ROUNDS = 9
DUMPS = 3
TYPES = {"postgres": 3.0, "redis": 0.5}
ROWS = 1_500_000
FILL = f"""
create table measured (id bigint primary key, text text not null, at timestamptz not null);
insert into measured
    select n, md5(n::text) || md5((n * 7)::text), timestamptz '2026-01-01' + n * interval '1 s'
    from generate_series(1, {ROWS}) n;
create index on measured (at);
checkpoint;
"""


def make_template():
    """The stack and the images of both types, made once: that time is the mirror's."""
    if os.path.exists(TEMPLATE):
        return
    base = os.environ.get("STAITHE_BENCH_DATA") or bench.make_template()
    print("Making the images of the services, once", file=sys.stderr)
    with bench.scratch() as directory:
        instance = bench.Staithe(directory)
        bench.copy_template(base, instance.data)
        try:
            instance.start()
            for kind in TYPES:
                instance.cli(f"{kind}:create", "first")
                instance.cli(f"{kind}:destroy", "first", "--force")
        finally:
            instance.stop()
        os.rename(instance.data, TEMPLATE)


def timed(call):
    start = time.monotonic()
    call()
    return time.monotonic() - start


# --- by hand -------------------------------------------------------------------------------------


def processes(instance, kind, name):
    """Pids in the container of a service."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cgroup"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
            if f"/staithe-bench{os.getpid()}/service-{kind}-{name}/" in file.read():
                found.append(int(path.split("/")[2]))
    return sorted(found)


def inside(instance, kind, name, *command, **options):
    """A program in the namespaces of a service, started by nobody of ours."""
    for pid in processes(instance, kind, name):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8") as file:
            if file.read().strip() in ("postgres", "redis-server"):
                break
    else:
        sys.exit(f"{kind} {name}: no server runs")
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-m", "-n", "-p", "-U", "-S", "1000", "-G", "1000", *command],
        check=False, stderr=subprocess.PIPE, **options)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.decode()}")


PSQL = "export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH PGHOST=/run PGUSER=postgres; "


def by_hand(instance, script, **options):
    inside(instance, "postgres", "filled", "sh", "-euc", PSQL + script, **options)


def initdb_by_hand(instance):
    """A server of the same image, in the same container, from nothing to its first answer."""
    def make():
        by_hand(instance, """
            initdb -D /data/hand -U postgres --auth trust > /dev/null
            pg_ctl -D /data/hand -o '-p 6000 -c unix_socket_directories=/tmp -c shared_buffers=32MB' \\
                -l /tmp/hand.log -w start > /dev/null
            psql -h /tmp -p 6000 -qAtc 'select 1' > /dev/null""", stdout=subprocess.DEVNULL)
    def end():
        by_hand(instance, "pg_ctl -D /data/hand -m immediate stop; rm -rf /data/hand",
                stdout=subprocess.DEVNULL)
    seconds = timed(make)
    end()
    return seconds


# --- create --------------------------------------------------------------------------------------


def create(instance):
    """Seconds from the command to its end, when the server has answered; and those by hand."""
    times = {kind: [] for kind in TYPES}
    hand = []
    for number in range(ROUNDS + 1):
        for kind, figures in times.items():
            figures.append(timed(lambda: instance.cli(f"{kind}:create", f"new{number}")))
            instance.cli(f"{kind}:destroy", f"new{number}", "--force")
        hand.append(initdb_by_hand(instance))
    # The first of each warms up.
    return {kind: figures[1:] for kind, figures in times.items()}, hand[1:]


def report_create(times, hand):
    print("\n| create to ready, s | median | min | max | target |\n|---|---:|---:|---:|---:|")
    for kind, figures in times.items():
        print(f"| `{kind}:create` | {statistics.median(figures):.2f} | {min(figures):.2f} | "
              f"{max(figures):.2f} | {TYPES[kind]} |")
    print(f"| initdb, start, `select 1` by hand | {statistics.median(hand):.2f} | {min(hand):.2f} | "
          f"{max(hand):.2f} | |")


# --- memory --------------------------------------------------------------------------------------


def footprint(instance):
    """PSS in KiB of an idle service: the database's own processes, and what Staithe has for it."""
    table = {}
    before = settled(instance)
    for kind in TYPES:
        instance.cli(f"{kind}:create", "idle")
        after = settled(instance)
        instance.cli(f"{kind}:destroy", "idle", "--force")
        difference = {name: after.get(name, {}).get("pss", 0) - before.get(name, {}).get("pss", 0)
                      for name in ("app", "monitor", "reaper")}
        table[kind] = (difference["app"], difference["monitor"] + difference["reaper"])
    return table


def report_footprint(table):
    print("\n| idle, PSS in MiB | the database itself | Staithe's part |\n|---|---:|---:|")
    for kind, (own, ours) in table.items():
        print(f"| {kind} | {own / 1024:.1f} | {ours / 1024:.1f} |")


# --- backups -------------------------------------------------------------------------------------


def dumps(instance):
    """Seconds by row, ours and by hand in turns."""
    path = f"{instance.directory}/hand.dump"
    ours = f"{instance.directory}/ours.dump"
    rows = {name: [] for name in (
        "`pg_dump -Fc` by hand, to a file, fsync", "`postgres:export`",
        "`pg_restore` by hand, into a new database", "`postgres:import`",
        "by hand: `pg_dump`, then `pg_restore`",
        "`postgres:backup`: dump, read back, restore into a scratch service, compare",
        "`postgres:restore --to` a new service")}

    def dump():
        with open(path, "wb") as file:
            by_hand(instance, "exec pg_dump -Fc filled", stdout=file)
            os.fsync(file.fileno())

    def restore():
        with open(path, "rb") as file:
            by_hand(instance, "createdb hand; exec pg_restore --no-owner -d hand", stdin=file)

    def export():
        with open(ours, "wb") as file:
            subprocess.run([bench.PROGRAM, "postgres:export", "filled"], stdout=file, check=True,
                           env={**os.environ, "STAITHE_RUN_DIR": instance.run})
            os.fsync(file.fileno())

    def bring_in():
        with open(ours, "rb") as file:
            subprocess.run([bench.PROGRAM, "postgres:import", "copy"], stdin=file, check=True,
                           stdout=subprocess.DEVNULL, env={**os.environ, "STAITHE_RUN_DIR": instance.run})

    def both():
        by_hand(instance, "dropdb hand")
        dump()
        restore()

    instance.cli("postgres:create", "copy")
    steps = (dump, export, restore, bring_in, both,
             lambda: instance.cli("postgres:backup", "filled"),
             lambda: instance.cli("postgres:restore", "filled", "--to", "again"))
    for _ in range(DUMPS):
        for figures, step in zip(rows.values(), steps, strict=True):
            figures.append(timed(step))
        by_hand(instance, "dropdb hand")
        instance.cli("postgres:destroy", "again", "--force")
    instance.cli("postgres:destroy", "copy", "--force")
    return rows, os.path.getsize(path)


def report_dumps(rows, size, dump_bytes):
    print(f"\n{ROWS:,} rows, {size / 1e6:.0f} MB in tables and indexes, {dump_bytes / 1e6:.0f} MB in the dump."
          "\n\n| | median s | MB of tables for each second | by hand = 1 |\n|---|---:|---:|---:|")
    medians = {name: statistics.median(figures) for name, figures in rows.items()}
    hand = None
    for name, seconds in medians.items():
        if "by hand" in name:
            hand = seconds
        print(f"| {name} | {seconds:.2f} | {size / 1e6 / seconds:.0f} | {seconds / hand:.2f} |")


def services():
    load = os.getloadavg()[0]
    make_template()
    os.environ["STAITHE_BENCH_DATA"] = TEMPLATE
    with staithe() as instance:
        table = footprint(instance)
        instance.cli("postgres:create", "filled")
        times, hand = create(instance)
        by_hand(instance, "exec psql -qd filled", input=FILL.encode())
        size = int(run_sql(instance, "select pg_database_size('filled')"))
        rows, dump_bytes = dumps(instance)
    machine(load)
    report_create(times, hand)
    report_footprint(table)
    report_dumps(rows, size, dump_bytes)


def run_sql(instance, sql):
    path = f"{instance.directory}/answer"
    with open(path, "wb") as file:
        by_hand(instance, f"exec psql -qAtd filled -c \"{sql}\"", stdout=file)
    with open(path, encoding="utf-8") as file:
        return file.read().strip()
