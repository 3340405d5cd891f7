import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, readFile, readdir, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';

/**
 * Builds the lab's small Linux guest, once, into a cache directory: `vmlinuz` and `initramfs.gz`. The kernel comes from Debian's
 * linux-image-cloud package, which is downloaded and unpacked but never installed; busybox and the libraries of the guest agent are
 * this machine's own. Knows nothing of VMs; what the guest does on the kernel's command line and console is written in the init
 * script below.
 *
 * Needs: apt-get (with package lists), dpkg-deb, cpio, gzip, busybox-static, ldd.
 */
const run = promisify(execFile);

/** Raised when the guest changes, so that an old cache is rebuilt. */
const guestVersion = '5';

const modules = ['virtio_pci', 'virtio_blk', 'virtio_scsi', 'sd_mod', 'virtio_console', 'crc32c_generic', 'ext4'];

export interface GuestFiles {
  readonly kernel: string;
  readonly initramfs: string;
}

const building = new Map<string, Promise<GuestFiles>>();

/** Idempotent; callers at the same time in one process share one build, and several processes cannot disturb each other. */
export async function buildGuest(cacheDirectory: string): Promise<GuestFiles> {
  const target = join(cacheDirectory, `guest-${guestVersion}`);
  const files = { kernel: join(target, 'vmlinuz'), initramfs: join(target, 'initramfs.gz') };
  if (await exists(target)) return files;
  let build = building.get(target);
  if (build === undefined) {
    build = buildInto(cacheDirectory, target).then(() => files);
    building.set(target, build);
    void build.catch(() => undefined).finally(() => building.delete(target));
  }
  return await build;
}

async function buildInto(cacheDirectory: string, target: string): Promise<void> {
  await mkdir(cacheDirectory, { recursive: true });
  const work = await mkdtemp(join(cacheDirectory, 'building-'));
  try {
    const packages = join(work, 'packages');
    await mkdir(packages);
    await fetchPackages(packages, [await cloudKernelPackage(), 'qemu-guest-agent']);
    const unpacked = join(work, 'unpacked');
    for (const file of await readdir(packages)) await run('dpkg-deb', ['-x', join(packages, file), unpacked]);

    const root = join(work, 'root');
    for (const directory of ['bin', 'dev', 'disk', 'lib/modules', 'proc', 'run', 'sbin', 'sys', 'tmp', 'var/run'])
      await mkdir(join(root, directory), { recursive: true });
    await copyFile('/bin/busybox', join(root, 'bin/busybox'));
    await symlink('busybox', join(root, 'bin/sh'));
    await installProgram(join(unpacked, 'usr/sbin/qemu-ga'), root, 'sbin/qemu-ga');
    const order = await installModules(unpacked, root);
    await writeFile(join(root, 'init'), initScript(order));
    await chmod(join(root, 'init'), 0o755);

    const result = join(work, 'result');
    await mkdir(result);
    const boot = join(unpacked, 'boot');
    const kernel = (await readdir(boot)).find((name) => name.startsWith('vmlinuz-'));
    if (kernel === undefined) throw new Error('The kernel package holds no kernel.');
    await copyFile(join(boot, kernel), join(result, 'vmlinuz'));
    await run('sh', ['-c', 'cd "$1" && find . | cpio --quiet -o -H newc | gzip -6 > "$2"', 'sh', root, join(result, 'initramfs.gz')]);
    // The rename is the moment at which the guest exists; a build that comes second is thrown away.
    await rename(result, target).catch(async (error: unknown) => {
      if (!(await exists(target))) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The meta package's only dependency names the newest kernel. */
async function cloudKernelPackage(): Promise<string> {
  const architecture = (await run('dpkg', ['--print-architecture'])).stdout.trim();
  const meta = `linux-image-cloud-${architecture}`;
  const show = async (): Promise<string | undefined> =>
    /linux-image-[\w.+-]*cloud-\w+/.exec((await run('apt-cache', ['depends', meta])).stdout.split('\n').slice(1).join('\n'))?.[0];
  const found = await show().catch(() => undefined);
  if (found !== undefined) return found;
  await run('apt-get', ['update']);
  const updated = await show();
  if (updated === undefined) throw new Error(`No package ${meta} in the package lists.`);
  return updated;
}

async function fetchPackages(directory: string, names: readonly string[]): Promise<void> {
  const options = ['-o', 'APT::Sandbox::User=root']; // else apt wants to write as its own user into our directory
  const download = async (): Promise<unknown> =>
    await run('apt-get', [...options, 'download', ...names], { cwd: directory, timeout: 300_000 });
  await download().catch(async () => {
    // Package lists older than the archive name files that are gone.
    await run('apt-get', ['update'], { timeout: 300_000 });
    await download();
  });
}

async function installProgram(program: string, root: string, path: string): Promise<void> {
  await copyFile(program, join(root, path));
  await chmod(join(root, path), 0o755);
  const { stdout } = await run('ldd', [program]);
  if (/not found/.test(stdout)) throw new Error(`Libraries of ${basename(program)} are missing on this machine: ${stdout}`);
  for (const [library] of stdout.matchAll(/\/\S+(?= \()/g)) {
    await mkdir(join(root, dirname(library)), { recursive: true });
    await copyFile(await realpath(library), join(root, library));
  }
}

/** Copies the modules and what they depend on; returns the names in an order in which they can be loaded. */
async function installModules(unpacked: string, root: string): Promise<string[]> {
  const found = new Map<string, string>();
  for (const entry of await readdir(join(unpacked, 'lib/modules'), { recursive: true }))
    if (entry.endsWith('.ko')) found.set(basename(entry, '.ko').replaceAll('-', '_'), join(unpacked, 'lib/modules', entry));
  const order: string[] = [];
  const add = async (name: string): Promise<void> => {
    if (order.includes(name)) return;
    const file = found.get(name);
    if (file === undefined) return; // built into the kernel
    const image = await readFile(file);
    // The .modinfo section holds `key=value` strings, each ended by a zero byte.
    const start = image.indexOf('\0depends=');
    const depends = start < 0 ? '' : image.toString('latin1', start + 9, image.indexOf(0, start + 9));
    for (const dependency of depends.split(',').filter((part) => part !== '')) await add(dependency.replaceAll('-', '_'));
    await copyFile(file, join(root, 'lib/modules', `${name}.ko`));
    order.push(name);
  };
  for (const name of modules) await add(name);
  return order;
}

/**
 * The whole user space. Console lines: `cycle N` when the N-th write cycle is on the disk (N goes on over restarts), `idle` when the first
 * disk (virtio, or else SCSI) has no file system. Kernel command line: `lab.pause_ms=N`, the pause between cycles.
 */
function initScript(moduleOrder: readonly string[]): string {
  return `#!/bin/sh
/bin/busybox mkdir -p /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in ${moduleOrder.join(' ')}; do insmod /lib/modules/$module.ko; done
pause_ms=1000
for word in $(cat /proc/cmdline); do
  case $word in lab.pause_ms=*) pause_ms=\${word#*=} ;; esac
done
pause=$((pause_ms / 1000)).$(printf %03d $((pause_ms % 1000)))
for port in /sys/class/virtio-ports/*; do
  if [ "$(cat $port/name)" = org.qemu.guest_agent.0 ]; then
    qemu-ga -m virtio-serial -p /dev/\${port##*/} -t /run -f /run/qemu-ga.pid -l /dev/null </dev/null >/dev/null 2>&1 &
  fi
done
# SCSI disks are found a while after their driver was loaded, and are named in any order: the one with the lowest address is the first.
disk=
seen=0
tries=0
while [ $seen -lt 5 ] && [ $tries -lt 100 ]; do
  tries=$((tries + 1))
  if [ -b /dev/vda ]; then
    disk=/dev/vda
    break
  fi
  for place in /sys/class/scsi_disk/*/device/block/sd*; do
    [ -b /dev/\${place##*/} ] || continue
    disk=/dev/\${place##*/}
    seen=$((seen + 1))
    break
  done
  sleep 0.1
done
if ! mount -t ext4 $disk /disk 2>/dev/null; then
  echo idle
  while true; do sleep 3600; done
fi
mkdir -p /disk/written
cycle=$(cat /disk/written/counter 2>/dev/null || echo 0)
while true; do
  cycle=$((cycle + 1))
  dd if=/dev/urandom of=/disk/written/random-$((cycle % 16)) bs=65536 count=1 conv=fsync 2>/dev/null
  echo $cycle | dd of=/disk/written/counter conv=fsync 2>/dev/null
  echo "cycle $cycle"
  sleep $pause
done
`;
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

if (require.main === module) {
  const cacheDirectory = resolve(process.argv[2] ?? join('.cache', 'guest'));
  void buildGuest(cacheDirectory).then(
    (files) => process.stdout.write(`${files.kernel}\n${files.initramfs}\n`),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      process.exitCode = 1;
    },
  );
}
