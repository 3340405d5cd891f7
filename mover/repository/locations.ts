/** From a location, as an administrator writes it, to the store behind it. */
import { RepositoryErrors } from '../errors/mover-errors';
import { isKeysName, KEYS_PREFIX } from '../format/keys-document';
import { DirectoryStore } from '../stores/directory-store';
import type { S3Access } from '../stores/s3/bucket';
import { formatS3Location, isS3Location, parseS3Location } from '../stores/s3/s3-location';
import { S3Store } from '../stores/s3/s3-store';
import type { Store } from '../stores/store';
import { directoryOf, prepareFolder, requireFolder } from './repository-folder';

/** What a create that was cut off, or the file system itself, may have left in an empty folder. */
const harmlessNames: readonly string[] = ['tmp', 'lost+found'];

/** The one way to write a location. Throws REPOSITORY_LOCATION_INVALID. */
export function canonicalLocation(location: string): string {
  return isS3Location(location) ? formatS3Location(parseS3Location(location)) : `directory:${directoryOf(location)}`;
}

/** Who opens a location. */
export interface Opener {
  readonly access?: S3Access | undefined;
  /** Instance id of a mover that writes there; absent for who only reads. */
  readonly writer?: string;
}

/** The store where a repository lies already. Throws REPOSITORY_LOCATION_INVALID, REPOSITORY_NOT_FOUND, REPOSITORY_ACCESS_MISSING, REPOSITORY_IO. */
export async function openLocation(location: string, opener: Opener): Promise<Store> {
  if (isS3Location(location)) return openBucket(location, opener.access);
  const folder = directoryOf(location);
  await requireFolder(folder, location);
  return directoryStore(folder, opener);
}

/** The store for a new repository; a folder is made. `isEmpty` is false when something lies there. Throws as {@link openLocation}, and REPOSITORY_FULL. */
export async function prepareLocation(location: string, opener: Opener): Promise<{ store: Store; isEmpty: boolean }> {
  if (isS3Location(location)) {
    const store = await openBucket(location, opener.access);
    for await (const name of store.list('')) if (!isKeysName(name)) return { store, isEmpty: false };
    return { store, isEmpty: true };
  }
  const folder = directoryOf(location);
  const contents = await prepareFolder(folder, location);
  const store = directoryStore(folder, opener);
  return { store, isEmpty: contents.every((name) => harmlessNames.includes(name) || name === 'keys') && (await hasOnlyKeys(store)) };
}

function directoryStore(folder: string, { writer }: Opener): Store {
  return new DirectoryStore(folder, writer === undefined ? {} : { writer });
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
