#!/usr/bin/env python3
"""Makes a machine ready for the two commands: Debian packages, npm packages, and the lab's Python venv.

Idempotent; does nothing, quickly, when all is there. Needs git, some Node.js with npm, Python 3, and the Debian, npm and PyPI
registries. Run by `npm run setup`.
"""
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
# Debian's own interpreter: the venv's C extensions are built against python3-dev.
SYSTEM_PYTHON = "/usr/bin/python3"


def say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fail(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


def run(command, **options):
    result = subprocess.run(command, cwd=ROOT, **options)
    if result.returncode != 0:
        fail(f"`{' '.join(map(str, command))}` failed with exit code {result.returncode}; its output above says why")


def wanted_packages():
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    lines = [line.split() for line in (ROOT / "scripts" / "debian-packages.txt").read_text().splitlines() if not line.startswith("#")]
    return [name for name, *only in filter(None, lines) if not only or f"[{architecture}]" in only]


def missing_packages(names):
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names], capture_output=True, text=True
    )
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def install_packages():
    if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
        fail("this set-up knows Debian only (no dpkg or apt-get here); install these by hand: " + ", ".join(wanted_packages()))
    missing = missing_packages(wanted_packages())
    if not missing:
        return
    say("installing Debian packages: " + " ".join(missing))
    prefix = []
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            fail("not root and no sudo; run as root once: apt-get install -y " + " ".join(missing))
        prefix = ["sudo", "-n"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    lock = ["-o", "DPkg::Lock::Timeout=600"]
    run([*prefix, "apt-get", *lock, "-qq", "update"], env=environment)
    run([*prefix, "apt-get", *lock, "-qq", "install", "-y", "--no-install-recommends", *missing],
        env=environment, stdout=subprocess.DEVNULL)
    still = missing_packages(missing)
    if still:
        fail("apt-get did not install: " + " ".join(still))


def digest(*files):
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()


def up_to_date(stamp, value):
    return stamp.exists() and stamp.read_text() == value


def install_npm_packages():
    if shutil.which("npm") is None:
        fail("npm is missing; install Node.js (any version from 18 on; the right one comes with the npm packages)")
    stamp = ROOT / "node_modules" / ".tidemark-stamp"
    value = digest(ROOT / "package.json", ROOT / "package-lock.json")
    if not up_to_date(stamp, value):
        say("installing npm packages")
        run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], stdout=sys.stderr)
        stamp.write_text(value)
    node = ROOT / "node_modules" / ".bin" / "node"
    if not node.exists():
        fail("the pinned Node.js was not installed; this machine is neither linux-x64 nor linux-arm64")


def install_python_packages():
    requirements = ROOT / "lab" / "requirements.txt"
    if not Path(SYSTEM_PYTHON).exists():
        fail(f"{SYSTEM_PYTHON} is missing; install Debian's python3")
    venv = ROOT / ".venv"
    stamp = venv / ".tidemark-stamp"
    value = digest(requirements)
    if up_to_date(stamp, value):
        return
    say("making the lab's Python venv")
    shutil.rmtree(venv, ignore_errors=True)
    run([SYSTEM_PYTHON, "-m", "venv", str(venv)])
    run([str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)],
        stdout=sys.stderr)
    stamp.write_text(value)


def main():
    CACHE.mkdir(exist_ok=True)
    install_packages()
    install_npm_packages()
    install_python_packages()


if __name__ == "__main__":
    main()
