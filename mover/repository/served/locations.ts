/** From a location, as an administrator writes it, to the store behind it. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { RepositoryErrors } from '../../errors/mover-errors';
import { HEADER_NAME } from '../../format/repository-header';
import { isKeysName, KEYS_PREFIX } from '../../format/keys-document';
import { DirectoryStore } from '../../stores/directory-store';
import { fileErrorCode } from '../../stores/file-errors';
import { problemOfMount } from '../../stores/mounts/mounted-share';
import type { Mounter } from '../../stores/mounts/mounter';
import { formatShareLocation, isRemote, isShareLocation, parseShareLocation } from '../../stores/mounts/share-location';
import type { S3Access } from '../../stores/s3/bucket';
import { formatS3Location, isS3Location, parseS3Location } from '../../stores/s3/s3-location';
import { S3Store } from '../../stores/s3/s3-store';
import type { Store } from '../../stores/store';
import { directoryOf, prepareFolder, requireFolder } from './repository-folder';

/** What a create that was cut off, or the file system itself, may have left in an empty folder. */
const harmlessNames: readonly string[] = ['tmp', 'lost+found'];

/** The one way to write a location. Throws REPOSITORY_LOCATION_INVALID. */
export function canonicalLocation(location: string): string {
  if (isS3Location(location)) return formatS3Location(parseS3Location(location));
  if (isShareLocation(location)) return formatShareLocation(parseShareLocation(location));
  return `directory:${directoryOf(location)}`;
}

/** Who opens a location. */
export interface Opener {
  readonly access?: S3Access | undefined;
  /** Instance id of a mover that writes there; absent for who only reads. */
  readonly writer?: string;
  /** Mounts shares; absent for who does not. */
  readonly mounter?: Mounter;
}

/** The store where a repository lies already. Throws REPOSITORY_LOCATION_INVALID, REPOSITORY_NOT_FOUND, REPOSITORY_ACCESS_MISSING, REPOSITORY_ACCESS_DENIED, REPOSITORY_IO. */
export async function openLocation(location: string, opener: Opener): Promise<Store> {
  if (isS3Location(location)) return openBucket(location, opener.access);
  const place = await findPlace(location, opener);
  return releasedAtFailure(place, async () => {
    if (place.problem !== undefined) throw RepositoryErrors.REPOSITORY_NOT_FOUND({ repository: location, because: place.problem });
    await requireFolder(place.folder, location);
    return directoryStore(place, opener);
  });
}

/** The store for a new repository; a folder is made. `isEmpty` is false when something lies there. Throws as {@link openLocation}, and REPOSITORY_FULL. */
export async function prepareLocation(location: string, opener: Opener): Promise<{ store: Store; isEmpty: boolean }> {
  if (isS3Location(location)) {
    const store = await openBucket(location, opener.access);
    for await (const name of store.list('')) if (!isKeysName(name)) return { store, isEmpty: false };
    return { store, isEmpty: true };
  }
  const place = await findPlace(location, opener);
  return releasedAtFailure(place, async () => {
    if (place.problem !== undefined)
      throw RepositoryErrors.REPOSITORY_LOCATION_INVALID({ field: 'location', location, problem: place.problem });
    const contents = await prepareFolder(place.folder, location);
    const store = directoryStore(place, opener);
    return { store, isEmpty: contents.every((name) => harmlessNames.includes(name) || name === 'keys') && (await hasOnlyKeys(store)) };
  });
}

/** A folder, and what was mounted for it. */
interface Place {
  readonly location: string;
  readonly folder: string;
  /** Why the folder is not what the location means. */
  readonly problem?: string | undefined;
  readonly release?: () => Promise<void>;
}

async function findPlace(location: string, { access, mounter }: Opener): Promise<Place> {
  if (!isShareLocation(location)) {
    const folder = directoryOf(location);
    return { location: `directory:${folder}`, folder };
  }
  const share = parseShareLocation(location);
  const canonical = formatShareLocation(share);
  if (!isRemote(share)) {
    // A folder below the mount point may still have to be made; the mount point itself is there.
    const problem = await problemOfMount(share.kind, await existingPart(share.folder), location);
    return { location: canonical, folder: share.folder, problem };
  }
  if (!mounter)
    throw RepositoryErrors.REPOSITORY_LOCATION_INVALID({
      field: 'location',
      location,
      problem: `nothing is mounted here; mount it and give ${share.kind}:/path/where/it/is`,
    });
  const mount = await mounter.mount(share, access);
  return { location: canonical, folder: mount.folder, release: () => mount.release() };
}

async function existingPart(folder: string): Promise<string> {
  const parent = path.dirname(folder);
  const isThere = await fs.stat(folder).then(
    () => true,
    (error: unknown) => fileErrorCode(error) !== 'ENOENT',
  );
  return isThere || parent === folder ? folder : existingPart(parent);
}

async function releasedAtFailure<T>(place: Place, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await place.release?.();
    throw error;
  }
}

function directoryStore({ location, folder, release }: Place, { writer }: Opener): Store {
  return new DirectoryStore(folder, {
    location,
    landmark: HEADER_NAME,
    ...(writer !== undefined && { writer }),
    ...(release && { onClose: release }),
  });
}

/** True unless something foreign lies in the folder of the keys: those of a repository that was never finished are no harm. */
async function hasOnlyKeys(store: Store): Promise<boolean> {
  for await (const name of store.list(KEYS_PREFIX)) if (!isKeysName(name)) return false;
  return true;
}

async function openBucket(location: string, access: S3Access | undefined): Promise<Store> {
  parseS3Location(location);
  if (!access) throw RepositoryErrors.REPOSITORY_ACCESS_MISSING({ field: 'access', location });
  return S3Store.open(location, access);
}
