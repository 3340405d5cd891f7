import { RepositoryErrors } from '../../errors/mover-errors';
import { fileErrorCode } from '../file-errors';
import { currentMountOf, type MountEntry } from './mount-table';
import type { ShareKind } from './share-location';

const types: Record<ShareKind, RegExp> = { nfs: /^(nfs\d?|fuse(\..+)?)$/, smb: /^(cifs|smb3|fuse(\..+)?)$/ };

/** True for a mount that can be a share of this kind. FUSE is a share by a client in user space: which one, nobody can tell. */
export function isShare(kind: ShareKind, mount: MountEntry | undefined): boolean {
  return mount !== undefined && types[kind].test(mount.type);
}

/**
 * What is wrong with a folder that should lie on a mounted share; undefined when it does. Below a mount point whose share is not mounted lies an empty
 * folder of the local disk, which must be taken neither for the repository nor for a place to make one. Throws REPOSITORY_IO.
 */
export async function problemOfMount(kind: ShareKind, folder: string, location: string): Promise<string | undefined> {
  let mount: MountEntry | undefined;
  try {
    mount = await currentMountOf(folder);
  } catch (error) {
    const code = fileErrorCode(error);
    if (code !== 'ENOENT' && code !== 'ENODEV' && code !== 'ENOTDIR')
      throw RepositoryErrors.REPOSITORY_IO({ what: location, reason: code }, { cause: error });
  }
  if (isShare(kind, mount)) return undefined;
  const found = mount ? `${mount.mountPoint} is ${mount.type}` : 'there is no such folder';
  return `its share is not mounted (${found}); mount it on the mover's machine, at best at each start by systemd`;
}
