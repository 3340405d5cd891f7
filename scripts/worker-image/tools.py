"""What the steps share: where things lie, how programs are called, how a digest is made."""
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache" / "worker-image"
# Of every file in the image, and what all tools that know SOURCE_DATE_EPOCH use: 2026-01-01.
EPOCH = 1767225600
ENVIRONMENT = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "UTC", "LC_ALL": "C.UTF-8"}


class BuildError(Exception):
    """Something that whoever builds can mend; the message says what."""


def say(text):
    print(f"worker-image: {text}", file=sys.stderr, flush=True)


def run(*command, **options):
    """Standard output as bytes. A program that fails ends the build with its own words."""
    command = [str(part) for part in command]
    if shutil.which(command[0]) is None:
        raise BuildError(f"{command[0]} is missing; `npm run setup` installs what is needed")
    result = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **options)
    if result.returncode != 0:
        words = result.stderr.decode(errors="replace").strip() or result.stdout.decode(errors="replace").strip()
        raise BuildError(f"`{' '.join(command)}` failed with exit code {result.returncode}: {words[-2000:]}")
    return result.stdout


def file_digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(*paths):
    """Of names, modes, links and contents below the paths; not of times and owners."""
    total = hashlib.sha256()
    for top in paths:
        for path in [top] if top.is_file() else sorted(p for p in top.rglob("*")):
            name = path.relative_to(top) if path != top else path.name
            total.update(f"{name}\0{'x' if os.access(path, os.X_OK) else '-'}\0".encode())
            if path.is_symlink():
                total.update(os.readlink(path).encode())
            elif path.is_file():
                total.update(file_digest(path).encode())
    return total.hexdigest()


def text_digest(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def words_of(path):
    """Lines of words, without comments."""
    lines = [line.split("#")[0].split() for line in path.read_text().splitlines()]
    return [line for line in lines if line]


def settle(tree):
    """Gives everything below a tree the same time, so that builds do not differ by when they ran."""
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


@contextlib.contextmanager
def exclusive(folder):
    """Two builds at once would only do the same work twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace_folder(made, target):
    """A finished folder takes the place of an old one, if there is one."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(made, target)
