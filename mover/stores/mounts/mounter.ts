/** Shares that the mover mounts itself, below its data folder; each is mounted once, however many use it, and unmounted with the last one. */
import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import { SerialQueues } from '../../../common/flow/serial-queue';
import { RepositoryErrors } from '../../errors/mover-errors';
import type { S3Access } from '../s3/bucket';
import { fileErrorCode } from '../file-errors';
import { makeFolder } from '../make-folder';
import { MountHelper, type MountResult } from './mount-helper';
import { mountAt } from './mount-table';
import { isShare } from './mounted-share';
import { formatShareLocation, type RemoteShare } from './share-location';

/** A server that does not answer keeps mount(8) waiting for minutes. */
const mountTimeoutMs = 30_000;
/** What lies there is data, whatever a server says. */
const commonOptions = ['nosuid', 'nodev', 'noexec', 'noatime'];

/** A share in use. */
export interface Mount {
  /** The folder of the location in it. */
  readonly folder: string;
  /** Unmounts it, unless somebody else uses it. */
  release(): Promise<void>;
}

export interface MounterSettings {
  /** How long a call on a share waits for a server that does not answer before it fails, milliseconds. */
  readonly patienceMs: number;
  /** The programs. */
  readonly mount: string;
  readonly umount: string;
}

const usual: MounterSettings = { patienceMs: 60_000, mount: 'mount', umount: 'umount' };
/** Mounts on top of each other at one folder. Nothing here makes more than one. */
const maxStacked = 8;

export class Mounter {
  private readonly used = new Map<string, { users: number; ready: Promise<void>; access: S3Access | undefined }>();

  /** By folder: an unmount that is under way must not hit the mount that comes after it. */
  private readonly steps = new SerialQueues();
  private readonly helper = new MountHelper();
  private readonly settings: MounterSettings;
  private ended = false;

  constructor(
    private readonly dataFolder: string,
    settings: Partial<MounterSettings> = {},
  ) {
    this.settings = { ...usual, ...settings };
  }

  /**
   * A share that is mounted already stays as it is; another user or password than it was mounted with is tried beside it.
   * Throws REPOSITORY_ACCESS_MISSING, REPOSITORY_ACCESS_DENIED, REPOSITORY_LOCATION_INVALID, REPOSITORY_IO.
   */
  async mount(share: RemoteShare, access: S3Access | undefined): Promise<Mount> {
    const location = formatShareLocation(share);
    if (this.ended) throw RepositoryErrors.REPOSITORY_IO({ what: location, reason: 'the mover is being stopped' });
    if (share.kind === 'smb' && !access) throw RepositoryErrors.REPOSITORY_ACCESS_MISSING({ field: 'access', location });
    // Not by the subfolder: two repositories on one share are one mount.
    const point = path.join(
      this.dataFolder,
      'mounts',
      createHash('sha256')
        .update(formatShareLocation({ ...share, subfolder: '' }))
        .digest('hex')
        .slice(0, 16),
    );
    const known = this.used.get(point);
    if (known && access && !isSameAccess(access, known.access)) {
      await this.tryAccess(share, `${point}-${randomUUID().slice(0, 8)}`, access);
      known.access = access;
    }
    const entry = this.used.get(point) ?? {
      users: 0,
      ready: this.steps.run(point, () => this.makeMounted(share, point, access, [])),
      access,
    };
    entry.users += 1;
    this.used.set(point, entry);
    let released = false;
    const release = async () => {
      if (released) return;
      released = true;
      entry.users -= 1;
      if (entry.users > 0 || this.used.get(point) !== entry) return;
      this.used.delete(point);
      await this.steps.run(point, () => this.unmount(point));
    };
    try {
      await entry.ready;
    } catch (error) {
      entry.users -= 1;
      if (this.used.get(point) === entry) this.used.delete(point);
      if (isTidemarkError(error)) throw error;
      throw RepositoryErrors.REPOSITORY_IO({ what: location, reason: fileErrorCode(error) || 'unknown' }, { cause: error });
    }
    return { folder: path.join(point, share.subfolder), release };
  }

  /** Leaves nothing mounted when it fails. */
  private async makeMounted(share: RemoteShare, point: string, access: S3Access | undefined, more: readonly string[]): Promise<void> {
    await makeFolder(path.dirname(point));
    // A mover that was killed left it mounted: with the password of then, and perhaps to a server that is away or has other handles now.
    await this.unmount(point);
    await makeFolder(point);
    const credentials = access && share.kind === 'smb' ? await writeCredentials(`${point}.credentials`, access, share) : undefined;
    try {
      const { patienceMs, mount } = this.settings;
      const type = share.kind === 'nfs' ? 'nfs' : 'cifs';
      const options = [...optionsOf(share, patienceMs, credentials), ...more].join(',');
      const result = await this.helper.run(mountTimeoutMs, mount, '-t', type, '-o', options, share.source, point);
      if (result.code !== 0) throw mountError(result, share);
      if (!isShare(share.kind, await mountAt(point)))
        throw RepositoryErrors.REPOSITORY_IO({ what: formatShareLocation(share), reason: 'mount succeeded and nothing is mounted' });
    } catch (error) {
      // One that was killed, for it took too long, may have come through all the same.
      await this.unmount(point);
      throw error;
    } finally {
      // The kernel keeps what it needs to connect again.
      if (credentials !== undefined) await fs.rm(credentials, { force: true });
    }
  }

  private async tryAccess(share: RemoteShare, point: string, access: S3Access): Promise<void> {
    if (share.kind !== 'smb') return;
    try {
      // A connection of its own: on one that is there the kernel goes on with a session of the same user and password, which the server may refuse by now.
      await this.makeMounted(share, point, access, ['nosharesock']);
    } finally {
      await this.unmount(point);
    }
  }

  /** Fails what waits for servers that are away, as far as the kernel lets go of it, and unmounts everything. For the end of the process. */
  async cutOff(): Promise<void> {
    this.ended = true;
    const points = [...this.used.keys()];
    this.used.clear();
    await Promise.all(
      points.map(async (point) => {
        // Says EBUSY, mostly, and has ended the calls all the same (umount2(2), MNT_FORCE); who gets an error closes its files, which are calls again.
        for (let attempt = 0; attempt < 10; attempt++) {
          if ((await this.helper.run(mountTimeoutMs, this.settings.umount, '-f', point)).code === 0) break;
          await sleep(300);
        }
        await this.unmount(point);
      }),
    );
  }

  /** Lazily: a server that is away must not keep the mover from ending. Nothing happens where nothing is mounted. */
  private async unmount(point: string): Promise<void> {
    for (let left = maxStacked; left > 0 && (await mountAt(point)) !== undefined; left--)
      if ((await this.helper.run(mountTimeoutMs, this.settings.umount, '-l', point)).code !== 0) break;
    // Fails while it is still mounted, which is right.
    await fs.rmdir(point).catch(() => undefined);
  }
}

function isSameAccess(a: S3Access, b: S3Access | undefined): boolean {
  return a.accessKeyId === b?.accessKeyId && a.secretAccessKey.reveal() === b.secretAccessKey.reveal();
}

/**
 * nfs(5): a call fails with ETIMEDOUT when the server does not answer for three times `timeo` (tenths of a second; a minute, unless told). A `hard` mount would
 * hold the thread that asked until the server is back, and with it the end of the process. What failed counts as not written, as docs/formats/directory.md
 * has it: the data loss that soft mounts are known for is that of programs which do not look at what fsync says.
 */
function nfsPatience(patienceMs: number): string[] {
  return ['softerr', `timeo=${Math.ceil(patienceMs / 300)}`, 'retrans=2'];
}

/**
 * mount.cifs(8): a server from which nothing came for three times `echo_interval` (seconds) counts as gone. The kernel's own 60 s make that three minutes, in
 * which calls on a server that fell silent without closing its connections just wait.
 */
function smbPatience(patienceMs: number): string[] {
  // The client tries to connect anew for 10 s.
  return ['soft', `echo_interval=${Math.ceil(patienceMs / 3000)}`];
}

function optionsOf(share: RemoteShare, patienceMs: number, credentials: string | undefined): string[] {
  const own =
    share.kind === 'nfs'
      ? // A remembered "no such file" would hide for a minute what other movers announce.
        [...nfsPatience(patienceMs), 'lookupcache=positive', 'retry=0']
      : [
          ...smbPatience(patienceMs),
          'cache=strict',
          `uid=${process.getuid?.() ?? 0}`,
          `gid=${process.getgid?.() ?? 0}`,
          'file_mode=0600',
          'dir_mode=0700',
          ...(credentials === undefined ? [] : [`credentials=${credentials}`]),
        ];
  return [
    ...commonOptions,
    ...own,
    ...(share.version === undefined ? [] : [`vers=${share.version}`]),
    ...(share.port === undefined ? [] : [`port=${share.port}`]),
  ];
}

/** mount.cifs(8): a file that nobody else can read, `DOMAIN\user` as two lines. Throws REPOSITORY_LOCATION_INVALID. */
async function writeCredentials(file: string, access: S3Access, share: RemoteShare): Promise<string> {
  const [, domain, user = ''] = /^(?:([^\\/]+)[\\/])?(.*)$/s.exec(access.accessKeyId) ?? [];
  const password = access.secretAccessKey.reveal();
  if (/[\r\n]/.test(`${user}${password}`))
    throw RepositoryErrors.REPOSITORY_LOCATION_INVALID({
      field: 'access',
      location: formatShareLocation(share),
      problem: 'user name or password has a line break',
    });
  const lines = [`username=${user}`, `password=${password}`, ...(domain === undefined ? [] : [`domain=${domain}`])];
  await fs.rm(file, { force: true });
  await fs.writeFile(file, `${lines.join('\n')}\n`, { mode: 0o600, flag: 'wx' });
  return file;
}

/** What mount(8), mount.nfs(8) and mount.cifs(8) say, in words that help. */
function mountError({ code, said: stderr }: MountResult, share: RemoteShare): unknown {
  const location = formatShareLocation(share);
  const said = stderr.trim().split('\n')[0] ?? '';
  const invalid = (problem: string) => RepositoryErrors.REPOSITORY_LOCATION_INVALID({ field: 'location', location, problem });
  const helper = share.kind === 'nfs' ? 'nfs-common' : 'cifs-utils';
  const yourself = `mount it yourself and give ${share.kind}:/path/where/it/is`;
  if (code === 127 || /helper program|bad option|bad superblock/i.test(stderr))
    return invalid(`it cannot be mounted here without the package ${helper}; install it, or ${yourself}`);
  if (/unknown filesystem type|No such device|not configured in kernel/i.test(stderr))
    return invalid(`the kernel here knows no ${share.kind === 'nfs' ? 'NFS' : 'SMB'}; ${yourself}`);
  if (/must be superuser|only root|Operation not permitted|mount error\(1\)/i.test(stderr))
    return invalid(`the mover's account may not mount; run it as root, or ${yourself}`);
  if (/access denied|Permission denied|mount error\(13\)|LOGON_FAILURE/i.test(stderr))
    return RepositoryErrors.REPOSITORY_ACCESS_DENIED({ location, what: 'mount', reason: said });
  if (/mount error\(2\)|No such file or directory|BAD_NETWORK_NAME/i.test(stderr)) return invalid('there is no such share on the server');
  return RepositoryErrors.REPOSITORY_IO({ what: location, reason: code === 137 ? 'the server did not answer' : said || 'mount failed' });
}
