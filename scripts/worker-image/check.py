"""What must be true of every worker image, looked at before it becomes one."""
import json
import re
import subprocess

from bundle import FOLDER
from debian import needed_libraries
from tools import BuildError, EPOCH

# Would look into disks that are attached, or let somebody in.
FORBIDDEN = re.compile(
    r"(^|/)(lvm|lvmetad|lvscan|vgchange|pvscan|mdadm|mdmon|multipath|multipathd|kpartx|dmsetup|dmraid|sshd|dropbear|agetty|getty|login|telnetd|apt|apt-get|dpkg)$"
    r"|/(dm-|md-|raid|linear|multipath|bcache|btrfs|xfs|ntfs3?|zfs)[\w-]*\.ko$|/(rules\.d|systemd)/"
)

LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib")


def check_tree(tree, work):
    """Raises BuildError with everything that is wrong."""
    problems = []
    for path in sorted(tree.rglob("*")):
        name = f"/{path.relative_to(tree)}"
        if FORBIDDEN.search(name):
            problems.append(f"{name} does not belong into a worker")
        if path.is_symlink():
            continue
        if path.is_file() and path.stat().st_mode & 0o6022:
            problems.append(f"{name} can be written by others, or changes who runs it")
        if path.is_file() and path.suffix != ".ko":
            missing = [one for one in needed_libraries(path) if not any((tree / folder / one).exists() for folder in LIBRARIES)]
            problems += [f"{name} needs {one}, which is missing" for one in missing]
    for name in ("usr/lib64/ld-linux-x86-64.so.2", "usr/sbin/init", "usr/sbin/qemu-ga", "usr/bin/ip", "usr/sbin/dhcpcd", "usr/sbin/chronyd", f"{FOLDER}/bin/node"):
        path = tree / name
        if not path.is_symlink() and not path.exists():
            problems.append(f"/{name} is missing")
    shadow = (tree / "etc/shadow").read_text()
    if any(not line.split(":")[1].startswith("!") for line in shadow.splitlines()):
        problems.append("/etc/shadow has an account that is not locked")
    problems += check_start(tree, work)
    if problems:
        raise BuildError("the image is not as it must be:\n  " + "\n  ".join(problems))


def check_start(tree, work):
    """Starts the worker's own program from the tree, away from this checkout: it must load, and refuse a config drive without a seed."""
    drive = work / "drive/openstack/latest"
    drive.mkdir(parents=True)
    (drive / "meta_data.json").write_text("{}")
    (drive / "user_data").write_text("#cloud-config\nuser: root\n")
    top = tree / FOLDER
    command = [top / "bin/node", top / "dist/worker/appliance/main.js", "--as-process", "--config-drive", work / "drive"]
    result = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/bin:/bin"})
    if result.returncode != 3 or "SEED_MISSING" not in result.stderr:
        return [f"the worker does not start from the image's own files: {result.stderr[-2000:]}"]
    # The lanes' threads are loaded by path, late; so are the contracts.
    script = (
        "for (const f of process.argv.slice(1)) require(f);"
        f"require({json.dumps(str(top / 'dist/proto/loader.js'))}).loadService('tidemark/worker/v1/worker_service.proto','tidemark.worker.v1.WorkerService');"
        "setTimeout(() => process.exit(0), 100);"
    )
    modules = [str(p) for p in sorted((top / "dist/worker").rglob("*.js")) if not re.search(r"(-thread|/main)\.js$", str(p))]
    result = subprocess.run([top / "bin/node", "-e", script, "--", *modules], cwd="/", capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/bin:/bin"})
    return [] if result.returncode == 0 else [f"a module of the worker cannot be loaded from the image: {result.stderr[-2000:]}"]
