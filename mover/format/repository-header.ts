/** The repository's header, as docs/formats/repository.md has it. */
import { z } from 'zod';
import { hasCode } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';
import { openDocument, sealDocument } from './sealed-document';

export const HEADER_NAME = 'tidemark-repository';
export const FORMAT_VERSION = 1;
/** Version of an encrypted repository's header: who does not know encryption refuses it. */
const ENCRYPTED_FORMAT_VERSION = 2;
const magic = 'TDMKREPO';

const common = z.object({
  repositoryId: z.uuid(),
  createdAt: z.iso.datetime(),
  requestId: z.string(),
  blockSizeBytes: z.number().refine((n) => isBlockSize(n)),
  codec: z.enum(['none', 'zstd', 'lz4']),
  codecLevel: z.number().int(),
});

/** In the clear: `digestKey` is here. Encrypted: it is among the keys, and `encryption` says where those are. */
const schemas = {
  clear: common.extend({ digestKey: z.string().regex(/^[0-9a-f]{64}$/), encryption: z.undefined().optional() }),
  encrypted: common.extend({
    digestKey: z.undefined().optional(),
    encryption: z.object({ cipher: z.string(), keys: z.string().regex(/^keys\/[0-9a-f-]{36}\.keys$/) }),
  }),
};

/** Fixed when the repository is made. */
export type RepositoryHeader = z.infer<typeof schemas.clear> | z.infer<typeof schemas.encrypted>;

/** A power of two from 64 KiB to 4 MiB. */
export function isBlockSize(bytes: number): boolean {
  return Number.isInteger(bytes) && bytes >= 65536 && bytes <= 4194304 && (bytes & (bytes - 1)) === 0;
}

export function encodeHeaderDocument(header: RepositoryHeader): Buffer {
  const version = header.encryption ? ENCRYPTED_FORMAT_VERSION : FORMAT_VERSION;
  return sealDocument({ magic, version }, [{ codec: 'none', content: Buffer.from(JSON.stringify(header)) }]);
}

/** Throws REPOSITORY_HEADER_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodeHeaderDocument(bytes: Buffer): RepositoryHeader {
  try {
    const isEncrypted = bytes.length > 10 && bytes.readUInt16BE(8) === ENCRYPTED_FORMAT_VERSION;
    const version = isEncrypted ? ENCRYPTED_FORMAT_VERSION : FORMAT_VERSION;
    const [content] = openDocument({ magic, version }, bytes, HEADER_NAME);
    return schemas[isEncrypted ? 'encrypted' : 'clear'].parse(JSON.parse((content as Buffer).toString('utf8')));
  } catch (cause) {
    if (hasCode(cause, 'REPOSITORY_FORMAT_UNKNOWN')) throw cause;
    throw RepositoryErrors.REPOSITORY_HEADER_DAMAGED({ problem: cause instanceof Error ? cause.message : 'unknown' }, { cause });
  }
}
