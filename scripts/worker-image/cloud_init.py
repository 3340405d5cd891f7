"""What cloud-init, the usual reader of a config drive, makes of one: the reference for our own reader (`worker/appliance`).

`cloud_init.py` reads requests from standard input, a JSON array, and prints an array of answers; `cloud_init.py FOLDER` answers for one tree.
A request is `{"files": {path: base64}, "macs": {mac: device}}`, a config drive's tree and the NICs of the machine. Its answer:
  found       whether cloud-init takes the tree for a config drive
  written     `{path: {"content": base64, "mode": octal}}`, the files that it would write, as its module write_files leaves them
  runs        what it would run or fetch on the way there; here nothing is
  problem     why it would write nothing, when its own code gave up
  networkd    `{device: text}`, the network as it would tell systemd-networkd; null: not told, so that it would make something up
  schema      what `cloud-init schema` says against the user data; null: nothing

It is Debian's package, unpacked below `.cache`; it is not installed, because it would act at this machine's next start.
"""
import base64
import contextlib
import copy
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # the folder is part of the repository

from tools import CACHE, BuildError, HERE, replace_folder, run, say, text_digest, words_of

PACKAGES = HERE / "cloud-init-packages.txt"


def unpacked():
    """The folder of Python modules; made once per list of packages."""
    names = [line[0] for line in words_of(PACKAGES)]
    target = CACHE.parent / "cloud-init" / text_digest(*names)[:16]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="unpacking-") as work:
            say("fetching cloud-init for tests")
            _download(names, Path(work) / "packages")
            for package in (Path(work) / "packages").glob("*.deb"):
                run("dpkg-deb", "--extract", package, Path(work) / "tree")
            replace_folder(Path(work) / "tree", target)
        for old in target.parent.iterdir():
            if old != target and not old.name.startswith("unpacking-"):
                shutil.rmtree(old, ignore_errors=True)
    return target / "usr/lib/python3/dist-packages"


def _download(names, folder):
    folder.mkdir()
    # Neither root nor the machine's lists of packages are needed, and none of its state changes.
    (folder / "lists/partial").mkdir(parents=True)
    private = ["-qq", "-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder}", "-o", "APT::Sandbox::User="]
    if not _try("apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", *names, cwd=folder):
        run("apt-get", *private, "update", cwd=folder)
        run("apt-get", *private, "download", *names, cwd=folder)


def _try(*command, **options):
    try:
        run(*command, **options)
        return True
    except BuildError:
        return False


class Reader:
    """cloud-init's stages in folders of their own, with everything that would act replaced by a note."""

    def __init__(self):
        import logging

        # Asked for at each file that is written, and looked for all over the place each time.
        sys.modules.setdefault("selinux", None)
        from cloudinit import handlers, helpers, net, sources, stages, subp, user_data, util
        from cloudinit.config import cc_write_files, cc_write_files_deferred, schema
        from cloudinit.net import network_state, networkd
        from cloudinit.settings import CFG_BUILTIN, PER_INSTANCE
        from cloudinit.sources import DataSourceConfigDrive

        logging.disable(logging.CRITICAL)
        self.helpers, self.stages, self.util, self.sources = helpers, stages, util, sources
        self.modules = (("write_files", cc_write_files), ("write_files_deferred", cc_write_files_deferred))
        self.schema, self.network_state, self.networkd = schema, network_state, networkd
        self.frequency, self.built_in = PER_INSTANCE, CFG_BUILTIN
        self.known_schema = schema.get_schema()
        self.log = logging.getLogger("cloud-init")
        self.runs = []
        # Only what is asked about is looked at: no CD of this machine, no interface of it.
        DataSourceConfigDrive.find_candidate_devs = lambda *_, **__: []
        net.get_ib_hwaddrs_by_interface = lambda *_: {}
        self.subp = subp
        self.real_subp = subp.subp
        user_data.read_file_or_url = self._note("fetch", fails=True)
        handlers.walker_handle_handler = lambda pdata, *_: self.runs.append("part-handler")

    def _note(self, kind, fails=False):
        def instead(*args, **_):
            self.runs.append(kind)
            if fails:
                raise IOError("not in a test")
            return ("", "")

        return instead

    def read(self, request):
        with tempfile.TemporaryDirectory(prefix="tidemark-cloud-init-") as folder:
            drive = Path(folder) / "cloud/seed/config_drive"
            for name, content in request["files"].items():
                (drive / name).parent.mkdir(parents=True, exist_ok=True)
                (drive / name).write_bytes(base64.b64decode(content))
            return self._read(Path(folder), request.get("macs", {}))

    def _read(self, folder, macs):
        self.runs = []
        answer = {"found": False, "written": {}, "runs": [], "problem": None, "networkd": None, "schema": None}
        init = self._init(folder)
        try:
            init.initialize()
            source = init.fetch()
        except self.sources.DataSourceNotFoundException:
            return answer
        except Exception as error:  # whatever its code stumbles over ends a start without settings
            return {**answer, "problem": f"{type(error).__name__}: {error}"}
        answer["found"] = True
        answer["networkd"] = self._network(source, macs)
        answer["schema"] = self._schema(folder, source)
        try:
            init.instancify()
            init.update()
            self.subp.subp = self._note("command")
            init.consume_data(self.frequency)
            answer["written"] = self._write(init, folder / "root")
        except Exception as error:
            answer["problem"] = f"{type(error).__name__}: {error}"
        finally:
            self.subp.subp = self.real_subp
        answer["runs"] = self.runs
        return answer

    def _init(self, folder):
        paths = {"cloud_dir": str(folder / "cloud"), "run_dir": str(folder / "run"), "templates_dir": str(folder / "templates")}
        config = {**self.built_in, "datasource_list": ["ConfigDrive"], "def_log_file": "", "system_info": {"distro": "debian", "paths": paths}}
        helpers = self.helpers

        class Init(self.stages.Init):
            """Its own configuration instead of this machine's /etc/cloud; what it merges into that is cloud-init's business."""

            def _read_cfg(self, extra_fns):
                own = helpers.Paths(paths, self.datasource)
                return helpers.ConfigMerger(paths=own, datasource=self.datasource, additional_fns=extra_fns, base_cfg=copy.deepcopy(config)).cfg

        return Init([self.sources.DEP_FILESYSTEM])

    def _write(self, init, root):
        """write_files as at a start, below a root of its own."""
        cloud, config, util = init.cloudify(), init.cfg, self.util
        modes = {}
        real_write, real_chown = util.write_file, util.chownbyname

        def write(path, content, mode=0o644, omode="wb", **_):
            real_write(str(root) + path, content, mode=mode, omode=omode)
            modes[path] = mode

        util.write_file, util.chownbyname = write, lambda *_: None
        try:
            for name, module in self.modules:
                module.handle(name, config, cloud, self.log, [])
        finally:
            util.write_file, util.chownbyname = real_write, real_chown
        return {path: {"content": base64.b64encode(Path(str(root) + path).read_bytes()).decode(), "mode": oct(mode)} for path, mode in modes.items()}

    def _network(self, source, macs):
        source.known_macs = macs
        try:
            config = source.network_config
            if config is None:
                return None
            return self.networkd.Renderer()._render_content(self.network_state.parse_net_config_data(config))
        except Exception as error:
            return {"problem": f"{type(error).__name__}: {error}"}

    def _schema(self, folder, source):
        file = folder / "user-data"
        file.write_bytes(source.get_userdata_raw() or b"")
        try:
            # It prints what is deprecated, be it nothing.
            with contextlib.redirect_stdout(io.StringIO()):
                self.schema.validate_cloudconfig_file(str(file), self.known_schema)
            return None
        except Exception as error:
            return str(error)


def main():
    sys.path.insert(0, str(unpacked()))
    reader = Reader()
    if len(sys.argv) > 1:
        print(json.dumps(reader.read({"files": tree_of(Path(sys.argv[1]))})))
    else:
        print(json.dumps([reader.read(request) for request in json.load(sys.stdin)]))


def tree_of(folder):
    return {str(file.relative_to(folder)): base64.b64encode(file.read_bytes()).decode() for file in folder.rglob("*") if file.is_file()}


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        say(str(error))
        sys.exit(1)
