"""Tests of the build's own steps, without a build: `python3 scripts/worker-image/self_test.py`. Needs Debian's part in the cache."""
import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True  # the folder is part of the repository

import bundle
import check
from debian import debian_root
from disk import make_disk
from tools import BuildError, CACHE, HERE, file_digest


class Repeatable(unittest.TestCase):
    def test_a_disk_made_again_later_and_elsewhere_is_the_same_file(self):
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="first-") as one, tempfile.TemporaryDirectory(prefix="second-") as other:
            digests = [self.make(Path(one), list)]
            time.sleep(2.1)  # FAT counts in steps of two seconds
            digests.append(self.make(Path(other), lambda files: list(reversed(files))))
            self.assertEqual(digests[0], digests[1])

    @staticmethod
    def make(folder, order):
        """A small tree, its files written in a given order."""
        debian = debian_root()
        early = (debian / "early-modules").read_text().split()
        release = next((debian / "tree/usr/lib/modules").iterdir()).name
        sources = {f"usr/lib/modules/{release}/{module}": debian / "tree/usr/lib/modules" / release / module for module in early}
        sources["usr/bin/busybox"] = debian / "tree/usr/bin/busybox"
        sources.update({str(p.relative_to(HERE / "root")): p for p in (HERE / "root").rglob("*") if p.is_file()})
        tree = folder / "tree"
        for name in order(sorted(sources)):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sources[name], tree / name)
        out = folder / "disk.qcow2"
        make_disk(tree, debian / "vmlinuz", early, release, "0.0.0-00000000", folder, out)
        return file_digest(out)


class Contents(unittest.TestCase):
    def test_what_looks_into_disks_or_lets_somebody_in_is_refused(self):
        for name in ("usr/sbin/lvm", "usr/sbin/multipathd", "usr/sbin/mdadm", "usr/sbin/sshd", "usr/sbin/getty", "usr/lib/modules/6.1/kernel/drivers/md/dm-mod.ko"):
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "tree" / name
                path.parent.mkdir(parents=True)
                path.write_text("")
                with mock.patch.object(check, "check_start", return_value=[]), self.assertRaisesRegex(BuildError, f"/{name} does not belong"):
                    (Path(folder) / "tree/etc").mkdir()
                    (Path(folder) / "tree/etc/shadow").write_text("root:!*:1::::::\n")
                    check.check_tree(Path(folder) / "tree", Path(folder))

    def test_an_account_that_is_not_locked_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "etc").mkdir()
            (Path(folder) / "etc/shadow").write_text("root::1::::::\n")
            with mock.patch.object(check, "check_start", return_value=[]), self.assertRaisesRegex(BuildError, "not locked"):
                check.check_tree(Path(folder), Path(folder))

    def test_the_list_of_npm_packages_is_what_the_worker_asks_for(self):
        bundle.check_packages()
        with mock.patch.object(bundle, "words_of", return_value=[["zod"], ["left-pad"]]), self.assertRaisesRegex(BuildError, "winston.*left-pad"):
            bundle.check_packages()


if __name__ == "__main__":
    unittest.main()
