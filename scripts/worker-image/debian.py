"""Debian's part of an image: mmdebstrap resolves, verifies and unpacks the packages (it runs none of their scripts); of what they hold only the
files that a recipe's contents name are taken, with the libraries that those need, and the kernel modules that it names.
"""
import fnmatch
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools import BuildError, CACHE, EPOCH, HERE, replace_folder, run, say, settle, text_digest, words_of

SUITE = "bookworm"
# Another mirror, or snapshot.debian.org for a build of a certain day: lines of sources.list.
SOURCES = os.environ.get("TIDEMARK_WORKER_IMAGE_SOURCES", "")


@dataclass(frozen=True)
class Recipe:
    """What goes in: `contents` as in debian-contents.txt, `modules` as in kernel-modules.txt; `cache` is the folder where it is kept."""

    contents: Path
    modules: Path
    cache: Path


WORKER = Recipe(HERE / "debian-contents.txt", HERE / "kernel-modules.txt", CACHE)
# Merged /usr, as Debian's own packages expect it.
MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
# Runs beside the unpacked packages: which package has which files.
LISTING = """
cd "$1"
for deb in var/cache/apt/archives/*.deb; do
  printf 'package %s %s\\n' "$(dpkg-deb -f "$deb" Package)" "$(dpkg-deb -f "$deb" Version)"
  dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's/^/file /'
done > "$1/tidemark-packages"
"""


def debian_root(refresh=False, recipe=WORKER):
    """The folder with `tree/`, `early-modules`, `vmlinuz` and `packages.json`; made once per recipe, anew when `refresh`."""
    digest = text_digest(SUITE, SOURCES, recipe.contents.read_text(), recipe.modules.read_text(), Path(__file__).read_text())
    target = recipe.cache / f"debian-{digest[:16]}"
    if target.exists() and not refresh:
        return target
    say(f"fetching Debian packages ({SUITE})")
    recipe.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=recipe.cache, prefix="building-") as work:
        unpacked = _unpack(recipe, Path(work))
        made = Path(work) / "debian"
        _select(recipe, unpacked, made)
        replace_folder(made, target)
    for old in recipe.cache.glob("debian-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def _unpack(recipe, work):
    hook = work / "listing.sh"
    hook.write_text(LISTING)
    archive = work / "root.tar"
    sources = [work / "sources.list"] if SOURCES else []
    for file in sources:
        file.write_text(SOURCES + "\n")
    names = ",".join(sorted({line[0] for line in words_of(recipe.contents)}))
    run("mmdebstrap", "--quiet", "--mode=chrootless", "--variant=extract", "--architectures=amd64", '--aptopt=Apt::Install-Recommends "false"',
        f"--include={names}", f"--extract-hook=sh {hook} \"$1\"", SUITE, archive, *sources)
    unpacked = work / "unpacked"
    for name, merged in MERGED.items():
        (unpacked / merged).mkdir(parents=True)
        (unpacked / name).symlink_to(merged)
    run("tar", "-x", "-f", archive, "-C", unpacked, "--keep-directory-symlink", "--no-same-owner", "--exclude=./dev/*")
    archive.unlink()
    return unpacked


def _select(recipe, unpacked, made):
    owners, versions = _listing(unpacked / "tidemark-packages")
    tree = made / "tree"
    tree.mkdir(parents=True)
    used = set()
    for package, *patterns in words_of(recipe.contents):
        kernel = [name for name in versions if package == "linux-image-amd64" and re.fullmatch(r"linux-image-\d.*-amd64", name)]
        used.update([package, *kernel])
        for pattern in patterns:
            found = sorted(p for p, owner in owners.items() if owner in (package, *kernel) and fnmatch.fnmatchcase(p, pattern))
            if not found:
                raise BuildError(f"{package} has no file {pattern} (any more); mend {recipe.contents}")
            for path in found:
                _take(unpacked, tree, path)
    (kernel_image,) = (tree / "boot").iterdir()
    release = kernel_image.name.removeprefix("vmlinuz-")
    os.replace(kernel_image, made / "vmlinuz")
    (tree / "boot").rmdir()
    _take_libraries(unpacked, tree)
    _take_modules(recipe, unpacked, tree, made, release)
    used.update(owners[path] for path in _files(tree) if path in owners)
    for package in sorted(used):
        notice = unpacked / "usr/share/doc" / package / "copyright"
        if notice.exists():
            _take(unpacked, tree, f"usr/share/doc/{package}/copyright")
    settle(tree)
    packages = {name: versions[name] for name in sorted(used)}
    (made / "packages.json").write_text(json.dumps({"kernel": release, "packages": packages}, indent=2))


def _listing(file):
    owners, versions, package = {}, {}, None
    for line in file.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "package":
            package, _, version = rest.partition(" ")
            versions[package] = version
        elif not rest.endswith("/"):
            owners[_merged(rest.removeprefix("./"))] = package
    return owners, versions


def _merged(path):
    top, _, rest = path.partition("/")
    return f"{MERGED[top]}/{rest}" if top in MERGED else path


def _take(unpacked, tree, path):
    """Copies a file, or a link with what it points to."""
    source, target = unpacked / path, tree / path
    if target.exists() or target.is_symlink():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        link = os.readlink(source)
        target.symlink_to(link)
        resolved = os.path.normpath(link.lstrip("/") if link.startswith("/") else os.path.join(os.path.dirname(path), link))
        _take(unpacked, tree, _merged(resolved))
    else:
        shutil.copyfile(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def _files(tree):
    return sorted(str(p.relative_to(tree)) for p in tree.rglob("*") if p.is_symlink() or p.is_file())


def needed_libraries(file):
    """Shared libraries that an ELF file asks for; none for other files."""
    with open(file, "rb") as opened:
        if opened.read(4) != b"\x7fELF":
            return []
    return re.findall(r"\(NEEDED\)\s+Shared library: \[(.+)]", run("readelf", "--wide", "--dynamic", file).decode())


def _take_libraries(unpacked, tree):
    folders = ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"]
    waiting = [path for path in _files(tree) if not (tree / path).is_symlink()]
    while waiting:
        path = waiting.pop()
        for library in needed_libraries(tree / path):
            place = next((f"{folder}/{library}" for folder in folders if (unpacked / folder / library).exists()), None)
            if place is None:
                raise BuildError(f"{path} needs {library}, which none of the packages has")
            if (tree / place).exists():
                continue
            before = set(_files(tree))
            _take(unpacked, tree, place)
            waiting += [new for new in _files(tree) if new not in before and not (tree / new).is_symlink()]


def _take_modules(recipe, unpacked, tree, made, release):
    source = unpacked / "usr/lib/modules" / release
    target = tree / "usr/lib/modules" / release
    run("depmod", "-b", unpacked / "usr", release)
    early, wanted = [], []
    for line in words_of(recipe.modules):
        (early if line[0] == "early" else wanted).extend(line[1:] if line[0] == "early" else line)
    built_in = {Path(line).stem.replace("-", "_") for line in (source / "modules.builtin").read_text().splitlines()}
    load_order = []
    for name in [*early, *wanted]:
        if name.replace("-", "_") in built_in:
            continue
        shown = run("modprobe", "-d", unpacked / "usr", "-S", release, "--show-depends", "--ignore-install", name).decode()
        for module in re.findall(r"^insmod (\S+)", shown, re.M):
            path = Path(module).relative_to(unpacked / "usr/lib/modules" / release)
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, target / path)
            if name in early and str(path) not in load_order:
                load_order.append(str(path))
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(source / name, target / name)
    run("depmod", "-b", tree / "usr", release)
    # The binary twins are kmod's; busybox reads the texts.
    for twin in target.glob("modules.*.bin"):
        twin.unlink()
    (made / "early-modules").write_text("".join(f"{path}\n" for path in load_order))
