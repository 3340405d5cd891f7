"""From a tree to a disk: initial RAM disk, EFI system partition (also the BIOS's), read-only root, partition table, qcow2."""
import os
import shutil
import subprocess
import uuid
from pathlib import Path

from tools import ENVIRONMENT, EPOCH, HERE, BuildError, run, settle

MIB = 1024 * 1024
ESP_MIB = 64
SYSLINUX = Path("/usr/lib/syslinux")
SYSTEMD_BOOT = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
TYPE_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
TYPE_ROOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"  # root, x86-64
COMMAND_LINE = "ro quiet console=tty0 console=ttyS0,115200n8 panic=30 net.ifnames=0 random.trust_cpu=on"


def make_disk(tree, vmlinuz, early_modules, release, version, work, out):
    """Writes the qcow2 file; returns the disk's size in bytes."""
    identity = lambda what: str(uuid.uuid5(uuid.NAMESPACE_URL, f"tidemark-worker/{version}/{what}"))  # noqa: E731
    settle(tree)
    initrd = work / "initrd.gz"
    make_initrd(tree, early_modules, release, work, initrd)
    root = work / "root.erofs"
    run("mkfs.erofs", "--quiet", "-T", EPOCH, "-U", identity("root"), "--all-root", "-x-1", root, tree)
    esp = work / "esp.img"
    make_esp(vmlinuz, initrd, version, identity("esp"), work, esp)
    raw = work / "disk.raw"
    size = assemble(esp, root, version, identity, raw)
    # In order and by one thread: the same bytes each time. zlib, which every qemu of an oVirt host can read.
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zlib", "-m", "1", raw, out)
    return size


def make_initrd(tree, early_modules, release, work, out):
    folder = work / "initrd"
    (folder / "bin").mkdir(parents=True)
    (folder / "modules").mkdir()
    shutil.copyfile(tree / "usr/bin/busybox", folder / "bin/busybox")
    shutil.copyfile(tree / "usr/lib/tidemark/initramfs", folder / "init")
    for path in ("bin/busybox", "init"):
        (folder / path).chmod(0o755)
    names = []
    for module in early_modules:
        source = tree / "usr/lib/modules" / release / module
        shutil.copyfile(source, folder / "modules" / source.name)
        names.append(source.name)
    (folder / "modules/order").write_text("".join(f"{name}\n" for name in names))
    settle(folder)
    listed = "".join(f"{path}\0" for path in sorted(str(p.relative_to(folder)) for p in folder.rglob("*")))
    options = ["--null", "--create", "--format=newc", "--reproducible", "--quiet", "--owner=+0:+0"]
    archive = run("cpio", *options, cwd=folder, input=listed.encode())
    out.write_bytes(run("gzip", "-9", "-n", input=archive))


def make_esp(vmlinuz, initrd, version, identity, work, out):
    """One FAT partition for both firmwares: syslinux for BIOS, systemd-boot for UEFI."""
    command_line = f"{COMMAND_LINE} tidemark.root={partition_name(version)}"
    files = {
        "vmlinuz": vmlinuz,
        "initrd.gz": initrd,
        "EFI/BOOT/BOOTX64.EFI": SYSTEMD_BOOT,
        "syslinux/ldlinux.c32": SYSLINUX / "modules/bios/ldlinux.c32",
    }
    texts = {
        "syslinux/syslinux.cfg": f"DEFAULT tidemark\nPROMPT 0\nTIMEOUT 0\nLABEL tidemark\n  LINUX /vmlinuz\n  INITRD /initrd.gz\n  APPEND {command_line}\n",
        "loader/loader.conf": "default tidemark.conf\ntimeout 0\neditor no\n",
        "loader/entries/tidemark.conf": f"title Tidemark worker\nversion {version}\nlinux /vmlinuz\ninitrd /initrd.gz\noptions {command_line}\n",
    }
    staged = work / "esp"
    for name, source in files.items():
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, staged / name)
    for name, text in texts.items():
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_text(text)
    settle(staged)
    with open(out, "wb") as file:
        file.truncate(ESP_MIB * MIB)
    serial = uuid.UUID(identity).hex[:8]
    run("mkfs.vfat", "-F", "32", "-s", "1", "-n", "TIDEMARK", "-i", serial, "--invariant", out)
    run("syslinux", "--install", out)
    for path in sorted(staged.rglob("*")):
        name = f"::/{path.relative_to(staged)}"
        run(*(["mmd", "-i", out, name] if path.is_dir() else ["mcopy", "-m", "-i", out, path, name]))


def partition_name(version):
    """At most 36 characters."""
    return f"tidemark-{version}"[:36]


def assemble(esp, root, version, identity, out):
    root_mib = -(-root.stat().st_size // MIB)
    size = (1 + ESP_MIB + root_mib + 1) * MIB
    with open(out, "wb") as file:
        file.truncate(size)
    table = "\n".join([
        "label: gpt",
        f"label-id: {identity('disk')}",
        f"start=1MiB, size={ESP_MIB}MiB, type={TYPE_ESP}, uuid={identity('esp')}, name=tidemark-boot, attrs=LegacyBIOSBootable",
        f"start={1 + ESP_MIB}MiB, size={root_mib}MiB, type={TYPE_ROOT}, uuid={identity('root')}, name={partition_name(version)}, attrs=\"GUID:60\"",
    ])
    run("sfdisk", "--quiet", out, input=table.encode())
    with open(out, "r+b") as disk:
        disk.write((SYSLINUX / "mbr/gptmbr.bin").read_bytes()[:440])
        for offset, part in ((1, esp), (1 + ESP_MIB, root)):
            disk.seek(offset * MIB)
            with open(part, "rb") as file:
                shutil.copyfileobj(file, disk, MIB)
    return size
