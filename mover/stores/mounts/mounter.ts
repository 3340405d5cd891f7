/** Shares that the mover mounts itself, below its data folder; each is mounted once, however many use it, and unmounted with the last one. */
import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import { RepositoryErrors } from '../../errors/mover-errors';
import type { S3Access } from '../s3/bucket';
import { fileErrorCode } from '../file-errors';
import { makeFolder } from '../make-folder';
import { MountHelper, type MountResult } from './mount-helper';
import { currentMountOf } from './mount-table';
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

export interface MountPrograms {
  readonly mount: string;
  readonly umount: string;
}

export class Mounter {
  private readonly used = new Map<string, { users: number; ready: Promise<void>; access: S3Access | undefined }>();

  private readonly helper = new MountHelper();
  private ended = false;

  constructor(
    private readonly dataFolder: string,
    private readonly programs: MountPrograms = { mount: 'mount', umount: 'umount' },
  ) {}

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
    const entry = this.used.get(point) ?? { users: 0, ready: this.makeMounted(share, point, access), access };
    entry.users += 1;
    this.used.set(point, entry);
    let released = false;
    const release = async () => {
      if (released) return;
      released = true;
      entry.users -= 1;
      if (entry.users > 0 || this.used.get(point) !== entry) return;
      this.used.delete(point);
      await this.unmount(point);
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

  private async makeMounted(share: RemoteShare, point: string, access: S3Access | undefined): Promise<void> {
    await makeFolder(point);
    // A mover that was killed left it mounted.
    const before = await currentMountOf(point).catch(() => undefined);
    if (before?.mountPoint === (await fs.realpath(point))) {
      if (isShare(share.kind, before) && before.source === share.source) return;
      await this.unmount(point);
      await makeFolder(point);
    }
    const credentials = access && share.kind === 'smb' ? await writeCredentials(`${point}.credentials`, access, share) : undefined;
    try {
      const type = share.kind === 'nfs' ? 'nfs' : 'cifs';
      const options = optionsOf(share, credentials).join(',');
      const result = await this.helper.run(mountTimeoutMs, this.programs.mount, '-t', type, '-o', options, share.source, point);
      if (result.code !== 0) throw mountError(result, share);
    } finally {
      // The kernel keeps what it needs to connect again.
      if (credentials !== undefined) await fs.rm(credentials, { force: true });
    }
    if (isShare(share.kind, await currentMountOf(point).catch(() => undefined))) return;
    throw RepositoryErrors.REPOSITORY_IO({ what: formatShareLocation(share), reason: 'mount succeeded and nothing is mounted' });
  }

  private async tryAccess(share: RemoteShare, point: string, access: S3Access): Promise<void> {
    if (share.kind !== 'smb') return;
    try {
      await this.makeMounted(share, point, access);
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
          if ((await this.helper.run(mountTimeoutMs, this.programs.umount, '-f', point)).code === 0) break;
          await sleep(300);
        }
        await this.unmount(point);
      }),
    );
  }

  /** Lazily: a server that is away must not keep the mover from ending. */
  private async unmount(point: string): Promise<void> {
    await this.helper.run(mountTimeoutMs, this.programs.umount, '-l', point);
    // Fails while it is still mounted, which is right.
    await fs.rmdir(point).catch(() => undefined);
  }
}

function isSameAccess(a: S3Access, b: S3Access | undefined): boolean {
  return a.accessKeyId === b?.accessKeyId && a.secretAccessKey.reveal() === b.secretAccessKey.reveal();
}

/**
 * nfs(5): a call that the server does not answer for a minute (20 s, and twice 20 s more) fails with ETIMEDOUT. A `hard` mount would hold the thread that
 * asked until the server is back, and with it the end of the process. What failed counts as not written, as docs/formats/directory.md has it: the data
 * loss that soft mounts are known for is that of programs which do not look at what fsync says.
 */
const nfsPatience = ['softerr', 'timeo=200', 'retrans=2'];

function optionsOf(share: RemoteShare, credentials: string | undefined): string[] {
  const own =
    share.kind === 'nfs'
      ? // A remembered "no such file" would hide for a minute what other movers announce.
        [...nfsPatience, 'lookupcache=positive', 'retry=0']
      : [
          // The client tries to connect anew for 10 s.
          'soft',
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
