#!/usr/bin/env python3
"""Builds the gateway machine of the share tests into .cache/share-gateway, what of it is not there yet: kernel, initial RAM disk (its whole root), and a
disk with our programs. Prints `{"kernel", "initrd", "programs"}`, paths. Uses the steps of the worker image's build.
"""
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # the folder is part of the repository
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts/worker-image"))

# pylint: disable=wrong-import-position
import bundle
from debian import MERGED, Recipe, debian_root
from tools import BuildError, exclusive, file_digest, replace_folder, run, say, settle, text_digest

CACHE = ROOT / ".cache/share-gateway"
RECIPE = Recipe(HERE / "debian-contents.txt", HERE / "kernel-modules.txt", CACHE)
# What `tidemark mover` and `tidemark mover enrol` need.
PROJECTS = ("mover", "host-adapter", "common", "proto")
# Beside them, what tests start in there.
FOR_TESTS = ("dist/mover/testing/share-writer.js",)
FOLDERS = ("dev", "etc", "proc", "run", "sys", "tmp", "var", "mnt", "root")


def build_machine():
    """A folder with `vmlinuz` and `initrd`."""
    debian = debian_root(recipe=RECIPE)
    target = CACHE / f"machine-{text_digest(debian.name, *(file_digest(HERE / name) for name in ('build.py', 'init')))[:16]}"
    if target.exists():
        return target
    say("building the gateway machine of the share tests")
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="building-") as folder:
        tree, made = Path(folder) / "tree", Path(folder) / "machine"
        made.mkdir()
        compose_tree(debian, tree)
        listed = "".join(f"{path}\0" for path in sorted(str(p.relative_to(tree)) for p in tree.rglob("*")))
        options = ["--null", "--create", "--format=newc", "--quiet", "--owner=+0:+0"]
        (made / "initrd").write_bytes(run("cpio", *options, cwd=tree, input=listed.encode()))
        shutil.copyfile(debian / "vmlinuz", made / "vmlinuz")
        replace_folder(made, target)
    keep_only(target, "machine-*")
    return target


def compose_tree(debian, tree):
    shutil.copytree(debian / "tree", tree, symlinks=True)
    for name in FOLDERS:
        (tree / name).mkdir(exist_ok=True)
    for name, place in MERGED.items():
        (tree / name).symlink_to(place)
    for applet in run(tree / "usr/bin/busybox", "--list").decode().split():
        # Debian's own mount(8) and umount(8) stay: they call the helpers of nfs-common and cifs-utils.
        if not any((tree / folder / applet).exists() for folder in ("usr/bin", "usr/sbin")):
            (tree / "usr/bin" / applet).symlink_to("busybox")
    # Where the kernel looks for it.
    (tree / "usr/sbin/modprobe").symlink_to("/usr/bin/busybox")
    (tree / "etc/early-modules").write_text((debian / "early-modules").read_text())
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    (tree / "etc/mtab").symlink_to("/proc/self/mounts")
    shutil.copyfile(HERE / "init", tree / "init")
    (tree / "init").chmod(0o755)


def build_programs():
    """An erofs image of what was compiled."""
    names = list(json.loads((ROOT / "package.json").read_text())["dependencies"])
    inputs = text_digest(*(f"{file.relative_to(ROOT)} {file_digest(file)}" for file in [*bundle.input_files(PROJECTS, names), *(ROOT / name for name in FOR_TESTS)]))
    target = CACHE / f"programs-{inputs[:16]}.erofs"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="building-") as folder:
        tree, made = Path(folder) / "tree", Path(folder) / target.name
        bundle.write_programs(tree, PROJECTS, bundle.npm_packages(names))
        for name in FOR_TESTS:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
        settle(tree)
        run("mkfs.erofs", "--quiet", "--all-root", made, tree)
        os.replace(made, target)
    keep_only(target, "programs-*")
    return target


def keep_only(target, pattern):
    for old in CACHE.glob(pattern):
        if old != target:
            old.unlink() if old.is_file() else shutil.rmtree(old, ignore_errors=True)


def main():
    try:
        with exclusive(CACHE):
            machine = build_machine()
            print(json.dumps({"kernel": str(machine / "vmlinuz"), "initrd": str(machine / "initrd"), "programs": str(build_programs())}))
    except BuildError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
