//! RabbitMQ and Memcached: what apps do with their addresses, and what is kept of them.

use std::time::Duration;

use crate::support::staithe::Finished;
use crate::support::{Repo, Staithe, eventually};

const SOON: Duration = Duration::from_secs(60);

/// A client of AMQP 0-9-1 in what every image has of Perl: greets, logs in, opens the virtual host.
/// §2.2.4 opening a connection, §4.2.3 frames; methods are named by class and number.
const AMQP: &str = r#"
use strict; use warnings; use IO::Socket::INET;
alarm 30;
my ($user, $password, $host, $port, $vhost) =
    $ENV{RABBITMQ_URL} =~ m{^amqp://([^:]+):([^@]+)@([^:]+):(\d+)/(.+)$} or die "no address\n";
my $server = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port) or die "connect: $@\n";
sub get { my $text = ""; while (length $text < $_[0]) {
    sysread $server, $text, $_[0] - length $text, length $text or die "cut off\n" } $text }
sub method {
    my ($type, $channel, $size) = unpack "CnN", get(7);
    my $body = get($size + 1);
    my ($class, $number) = unpack "nn", $body;
    print "type $type channel $channel method $class.$number\n";
    substr $body, 4, $size - 4 }
sub call { my $body = join "", @_; $server->syswrite(pack("CnN", 1, 0, length $body) . "$body\xce") }
$server->syswrite("AMQP\0\0\x09\x01");
print "version ", join(".", unpack "CC", method()), "\n";
my $response = "\0$user\0$password";
call(pack("nnN", 10, 11, 0), pack("C/a N/a C/a", "PLAIN", $response, "en_US"));
my $limits = method();
call(pack("nn", 10, 31), $limits);
call(pack("nn", 10, 40), pack("C/a C/a C", $vhost, "", 0));
method();
"#;

fn in_app(staithe: &Staithe, program: &[&str]) -> Finished {
    let mut arguments = vec!["run", "--no-tty", "shop"];
    arguments.extend(program);
    staithe.cli(&arguments)
}

/// What `rabbitmqctl` says.
fn ctl(staithe: &Staithe, words: &[&str], input: &str) -> String {
    let mut arguments = vec!["rabbitmq:connect", "--no-tty", "jobs", "--", "--quiet"];
    arguments.extend(words);
    staithe.cli_with_input(&arguments, input).succeeds().stdout.trim().to_owned()
}

/// A queue, an exchange and what binds them.
const DECLARED: &str = r#"{
    "queues": [{"name": "orders", "vhost": "jobs", "durable": true, "auto_delete": false, "arguments": {}}],
    "exchanges": [{"name": "shop", "vhost": "jobs", "type": "topic", "durable": true,
        "auto_delete": false, "internal": false, "arguments": {}}],
    "bindings": [{"source": "shop", "vhost": "jobs", "destination": "orders",
        "destination_type": "queue", "routing_key": "order.*", "arguments": {}}]
}"#;

#[test]
fn rabbitmq_serves_linked_apps_and_keeps_what_is_declared() {
    let staithe = Staithe::start_with_services(&["rabbitmq"]);
    Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();
    staithe.cli(&["rabbitmq:create", "jobs"]).succeeds();
    staithe.cli(&["rabbitmq:link", "jobs", "shop"]).succeeds().says("RABBITMQ_URL");
    let talks = || {
        let said = in_app(&staithe, &["perl", "-e", AMQP]).succeeds().stdout;
        // Start, Tune, Open-Ok: the password is right, and the virtual host is there.
        let expected = "type 1 channel 0 method 10.10\nversion 0.9\n\
            type 1 channel 0 method 10.30\ntype 1 channel 0 method 10.41\n";
        assert_eq!(said.replace('\r', ""), expected);
    };
    talks();
    let host = staithe.json(&["rabbitmq:info", "jobs"])["host"].as_str().unwrap().to_owned();
    // Neither Erlang's own port nor its port mapper are anybody's.
    for port in ["4369", "25672"] {
        let open = format!("exec 3<>/dev/tcp/{host}/{port}");
        in_app(&staithe, &["timeout", "5", "bash", "-c", &open]).fails_with(1).says("refused");
    }

    ctl(&staithe, &["import_definitions"], DECLARED);
    // Without arguments it is a shell.
    let shell = ["rabbitmq:connect", "--no-tty", "jobs"];
    let said = staithe.cli_with_input(&shell, "rabbitmqctl --quiet list_vhosts\n").succeeds();
    said.says("jobs");
    let declared = || {
        let queues = ctl(&staithe, &["list_queues", "-p", "jobs", "name", "durable"], "");
        let bindings = ["list_bindings", "-p", "jobs", "source_name", "destination_name"];
        let bindings = ctl(&staithe, &bindings, "");
        (queues.contains("orders\ttrue"), bindings.contains("shop\torders"))
    };
    assert_eq!(declared(), (true, true));
    staithe.cli(&["rabbitmq:restart", "jobs"]).succeeds();
    assert_eq!(declared(), (true, true), "lost by a restart");
    talks();

    staithe.cli(&["rabbitmq:backup", "jobs"]).succeeds().says("it is verified");
    assert_eq!(staithe.json(&["rabbitmq:backup-list", "jobs"])[0]["state"], "verified");
    ctl(&staithe, &["delete_queue", "-p", "jobs", "orders"], "");
    assert_eq!(declared(), (false, false));
    staithe.cli(&["rabbitmq:restore", "jobs"]).succeeds();
    assert_eq!(declared(), (true, true));
    // The password is still the one that the app was told.
    talks();
}

/// What Memcached answers, to somebody inside of its container.
fn memcached(staithe: &Staithe, lines: &str) -> String {
    let connect = ["memcached:connect", "--no-tty", "cache"];
    staithe.cli_with_input(&connect, lines).succeeds().stdout.replace('\r', "")
}

/// What Memcached has for items, in MiB.
fn room(staithe: &Staithe) -> u64 {
    let stats = memcached(staithe, "stats\nquit\n");
    let limit = stats.lines().find_map(|line| line.strip_prefix("STAT limit_maxbytes "));
    limit.unwrap_or_else(|| panic!("{stats}")).parse::<u64>().unwrap() >> 20
}

#[test]
fn memcached_serves_linked_apps_within_its_memory_and_has_no_backups() {
    let staithe = Staithe::start_with_services(&["memcached"]);
    Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();
    staithe.cli(&["memcached:create", "cache", "--memory", "64m"]).succeeds();
    staithe.cli(&["memcached:link", "cache", "shop"]).succeeds().says("MEMCACHED_URL");
    let script = r#"place=${MEMCACHED_URL#memcached://}
        exec 3<>/dev/tcp/${place%:*}/${place#*:} || exit 4
        printf 'set greeting 0 0 5\r\nhello\r\nget greeting\r\nquit\r\n' >&3
        timeout 10 cat <&3"#;
    let said = in_app(&staithe, &["bash", "-c", script]).succeeds().stdout.replace('\r', "");
    assert_eq!(said, "STORED\nVALUE greeting 0 5\nhello\nEND\n");
    assert_eq!(memcached(&staithe, "get greeting\nquit\n"), "VALUE greeting 0 5\nhello\nEND\n");

    // Of 64 MiB the items have 48: twice as much pushes out what is old, and ends nothing.
    assert_eq!(room(&staithe), 48);
    let value = "x".repeat(512 << 10);
    let mut lines = String::new();
    for number in 0..192 {
        lines.push_str(&format!("set item-{number} 0 0 {} noreply\n{value}\n", value.len()));
    }
    lines.push_str("get item-191\nquit\n");
    assert!(memcached(&staithe, &lines).contains(&value), "the last item is not there");
    assert_eq!(memcached(&staithe, "get item-0\nquit\n"), "END\n");
    let report = staithe.json(&["memcached:info", "cache"]);
    assert_eq!((&report["status"], &report["restarts"]), (&"running".into(), &0.into()));
    assert_eq!(report["memory_limit"], "64m");
    assert!(report["memory_bytes"].as_u64().unwrap() < 64 << 20, "{report}");
    staithe.cli(&["memcached:set", "cache", "memory", "128m"]).succeeds();
    staithe.cli(&["memcached:restart", "cache"]).succeeds();
    eventually(SOON, "it has more room", || {
        let room = room(&staithe);
        if room == 96 { Ok(()) } else { Err(format!("{room} MiB")) }
    });

    for verb in ["backup", "export", "import"] {
        let refused = staithe.cli(&[&format!("memcached:{verb}"), "cache"]).fails_with(4);
        refused.says("Memcached keeps nothing that could be exported or imported");
    }
    staithe.cli(&["memcached:clone", "cache", "other"]).fails_with(4).says("keeps nothing");
    assert_eq!(staithe.json(&["memcached:list"]).as_array().unwrap().len(), 1);
}
