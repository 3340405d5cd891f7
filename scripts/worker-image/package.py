"""The image as a Debian package, for machines that have no internet: `dpkg -i` puts image and manifest where the plug-in looks for them."""
import json
import shutil
import tempfile
from pathlib import Path

from tools import CACHE, run, settle

INSTALLED = "usr/share/tidemark/worker-image"


def make_package(manifest):
    """Returns the package's path, beside the image."""
    description = json.loads(manifest.read_text())
    version = description["version"]
    out = manifest.parent / f"tidemark-worker-image_{version}_all.deb"
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="package-") as folder:
        tree = Path(folder) / "tree"
        (tree / INSTALLED).mkdir(parents=True)
        for file in (manifest, manifest.with_suffix(".qcow2")):
            shutil.copyfile(file, tree / INSTALLED / file.name)
            (tree / INSTALLED / file.name).chmod(0o644)
        control = tree / "DEBIAN/control"
        control.parent.mkdir()
        control.write_text("\n".join([
            "Package: tidemark-worker-image",
            f"Version: {version.replace('-', '+')}",
            "Architecture: all",
            "Maintainer: The Tidemark developers <noreply@example.org>",
            f"Installed-Size: {description['fileBytes'] // 1024 + 8}",
            "Section: admin",
            "Priority: optional",
            "Description: Image of Tidemark's worker VMs",
            " The disk that Tidemark's oVirt plug-in uploads to deploy workers into clusters.",
            "",
        ]))
        for path in [tree, *tree.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        settle(tree)
        # The image is compressed already.
        run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, out)
    return out
