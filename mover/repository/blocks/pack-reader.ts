import { hasCode } from '../../../common/errors/tidemark-error';
import { RepositoryErrors } from '../../errors/mover-errors';
import { PACK_FOOTER_BYTES, readPackEntries, readPackFooter, type PackEntry } from '../../format/pack';
import type { PackCipher } from '../../format/pack-cipher';
import type { Store } from '../../stores/store';
import type { PackCiphers } from '../keys/pack-ciphers';
import { packName, uuidBytes } from './pack-table';

/** One read fetches the trailer of a pack of up to 680 blocks; larger lists take a second one. */
const firstReadBytes = 32 * 1024;

/** What a pack says of itself. */
export interface PackList {
  readonly entries: PackEntry[];
  readonly fileLength: number;
  /** Of an encrypted pack. */
  readonly cipher: PackCipher | undefined;
}

/** Entry list of a pack, from its end; `ciphers` in an encrypted repository. Throws PACK_DAMAGED (also when it is missing), REPOSITORY_IO. */
export async function readPackList(store: Store, id: string, ciphers?: PackCiphers): Promise<PackList> {
  const name = packName(id);
  try {
    const fileLength = await store.sizeOf(name);
    const end = Buffer.alloc(Math.min(firstReadBytes, fileLength));
    if ((await store.read(name, fileLength - end.length, end)) !== end.length || end.length < PACK_FOOTER_BYTES)
      throw RepositoryErrors.PACK_DAMAGED({ pack: name, problem: 'it is cut short' });
    const footer = readPackFooter(end.subarray(end.length - PACK_FOOTER_BYTES), fileLength, uuidBytes(id), name);
    const cipher = footer.keyId === undefined ? undefined : ciphers?.forPack(id, footer.keyId);
    if (ciphers && footer.keyId === undefined)
      throw RepositoryErrors.PACK_DAMAGED({ pack: name, problem: 'it is not encrypted, though the repository is' });
    if (footer.keyId !== undefined && !cipher)
      throw RepositoryErrors.PACK_DAMAGED({ pack: name, problem: 'it is encrypted with a key that the repository does not have' });
    const trailerLength = footer.listLength + PACK_FOOTER_BYTES;
    let trailer = end.subarray(Math.max(0, end.length - trailerLength));
    if (trailerLength > end.length) {
      trailer = Buffer.alloc(trailerLength);
      await store.read(name, footer.entryListOffset, trailer);
    }
    return { entries: readPackEntries(trailer, footer, name, cipher), fileLength, cipher };
  } catch (error) {
    if (hasCode(error, 'OBJECT_NOT_FOUND')) throw RepositoryErrors.PACK_DAMAGED({ pack: name, problem: 'it is missing' }, { cause: error });
    throw error;
  }
}
