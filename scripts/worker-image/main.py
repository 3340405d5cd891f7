#!/usr/bin/env python3
"""Builds the worker image: a bootable qcow2 with a read-only root, and a manifest beside it, in .cache/worker-image. Does nothing when it is there
already. See docs/operations/worker-image.md.
"""
import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # the folder is part of the repository

# pylint: disable=wrong-import-position
import bundle
import package
from check import check_tree
from debian import debian_root
from disk import SYSLINUX, SYSTEMD_BOOT, make_disk
from tools import BuildError, CACHE, HERE, ROOT, exclusive, file_digest, replace_folder, run, say, settle, text_digest, tree_digest

# The build's own files; its tests and boot measurements change nothing in the image.
STEPS = ("main.py", "tools.py", "debian.py", "bundle.py", "disk.py")
LINKS = {"etc/resolv.conf": "/run/tidemark/resolv.conf", "etc/mtab": "/proc/self/mounts"}
EMPTY = ("proc", "sys", "dev", "run", "tmp", "var", "root", "mnt")
# Of busybox, what the scripts in root/ and the worker call.
APPLETS = {
    "usr/bin": "sh cat cp date dmesg echo env find grep kill ln ls mkdir mount mv pidof ps rm sleep sort tail umount usleep xargs",
    "usr/sbin": "acpid init insmod lsmod modprobe poweroff reboot switch_root",
}
# The plug-in takes the newest version, and digests have no order.
KEPT_IMAGES = 1


def image_version(debian):
    """The product's version and a short digest of everything that goes in."""
    inputs = text_digest(
        *(file_digest(HERE / step) for step in STEPS),
        tree_digest(HERE / "root"),
        tree_digest(debian),
        *(f"{file.relative_to(ROOT)} {file_digest(file)}" for file in bundle.input_files()),
        *(file_digest(file) for file in (SYSTEMD_BOOT, SYSLINUX / "mbr/gptmbr.bin", SYSLINUX / "modules/bios/ldlinux.c32")),
    )
    return f"{json.loads((ROOT / 'package.json').read_text())['version']}-{inputs[:8]}"


def compose_tree(debian, version, tree):
    """Debian's files, ours, and the links and empty folders in between. Returns what is in it, name → version."""
    shutil.copytree(debian / "tree", tree, symlinks=True)
    shutil.copytree(HERE / "root", tree, symlinks=True, dirs_exist_ok=True)
    for path in (HERE / "root").rglob("*"):
        if path.is_file():
            (tree / path.relative_to(HERE / "root")).chmod(0o755 if os.access(path, os.X_OK) else 0o644)
    for name, target in {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", **LINKS}.items():
        (tree / name).symlink_to(target)
    for name in EMPTY:
        (tree / name).mkdir(exist_ok=True)
    for folder, applets in APPLETS.items():
        for applet in applets.split():
            (tree / folder / applet).symlink_to("/usr/bin/busybox")
    boot_loaders = run("dpkg-query", "-W", "-f", "${Package} ${Version}\\n", "syslinux-common", "systemd-boot-efi").decode().split()
    packages = {**dict(zip(boot_loaders[::2], boot_loaders[1::2])), **json.loads((debian / "packages.json").read_text())["packages"], **bundle.write_bundle(tree)}
    (tree / "etc/tidemark-image.json").write_text(json.dumps({"version": version}) + "\n")
    return packages


def build(out, refresh=False):
    """Returns the manifest's path. The image exists once its manifest does."""
    if platform.machine() != "x86_64":
        raise BuildError("workers are x86-64 machines, and their image is built on one; take it from there with --deb or as its two files")
    debian = debian_root(refresh)
    version = image_version(debian)
    image, manifest = out / f"tidemark-worker-{version}.qcow2", out / f"tidemark-worker-{version}.json"
    if manifest.exists() and image.exists():
        return manifest
    say(f"building {version}")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix="building-") as folder:
        work = Path(folder)
        tree = work / "tree"
        packages = compose_tree(debian, version, tree)
        check_tree(tree, work)
        release = json.loads((debian / "packages.json").read_text())["kernel"]
        early = (debian / "early-modules").read_text().split()
        made = work / image.name
        disk_bytes = make_disk(tree, debian / "vmlinuz", early, release, version, work, made)
        description = {
            "version": version,
            "sha256": file_digest(made),
            "fileBytes": made.stat().st_size,
            "diskBytes": disk_bytes,
            "architecture": "x86_64",
            "kernel": release,
            "packages": packages,
        }
        os.replace(made, image)
        (work / manifest.name).write_text(json.dumps(description, indent=2) + "\n")
        os.replace(work / manifest.name, manifest)
    remove_old(out)
    return manifest


def remove_old(out):
    manifests = sorted(out.glob("tidemark-worker-*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for manifest in manifests[KEPT_IMAGES:]:
        manifest.unlink()
        manifest.with_suffix(".qcow2").unlink(missing_ok=True)
        version = manifest.stem.removeprefix("tidemark-worker-")
        (out / f"tidemark-worker-image_{version}_all.deb").unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(prog="npm run worker-image --", description=__doc__)
    parser.add_argument("--refresh", action="store_true", help="take Debian's packages of today, instead of those that were fetched before")
    parser.add_argument("--out", type=Path, default=CACHE, help="folder of the image (default .cache/worker-image)")
    parser.add_argument("--deb", action="store_true", help="also make a Debian package of it, for machines without internet")
    parser.add_argument("--boot-test", action="store_true", help="boot it in qemu, with BIOS and UEFI, and print how long that takes")
    options = parser.parse_args()
    try:
        with exclusive(CACHE):
            manifest = build(options.out, options.refresh)
        print(manifest)
        if options.deb:
            print(package.make_package(manifest))
        if options.boot_test:
            from boot_test import boot_all  # needs nothing of the build
            return 0 if boot_all(manifest) else 1
    except BuildError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
