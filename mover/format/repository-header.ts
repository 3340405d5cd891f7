/** The repository's header, as docs/formats/repository.md has it. */
import { z } from 'zod';
import { hasCode } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';
import { openDocument, sealDocument } from './sealed-document';

export const HEADER_NAME = 'tidemark-repository';
export const FORMAT_VERSION = 1;
const kind = { magic: 'TDMKREPO', version: FORMAT_VERSION };

const schema = z.object({
  repositoryId: z.uuid(),
  createdAt: z.iso.datetime(),
  requestId: z.string(),
  blockSizeBytes: z.number().refine((n) => isBlockSize(n)),
  digestKey: z.string().regex(/^[0-9a-f]{64}$/),
  codec: z.enum(['none', 'zstd']),
  codecLevel: z.number().int(),
});

/** Fixed when the repository is made. */
export type RepositoryHeader = z.infer<typeof schema>;

/** A power of two from 64 KiB to 4 MiB. */
export function isBlockSize(bytes: number): boolean {
  return Number.isInteger(bytes) && bytes >= 65536 && bytes <= 4194304 && (bytes & (bytes - 1)) === 0;
}

export function encodeHeaderDocument(header: RepositoryHeader): Buffer {
  return sealDocument(kind, [{ codec: 'none', content: Buffer.from(JSON.stringify(header)) }]);
}

/** Throws REPOSITORY_HEADER_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodeHeaderDocument(bytes: Buffer): RepositoryHeader {
  try {
    const [content] = openDocument(kind, bytes, HEADER_NAME);
    return schema.parse(JSON.parse((content as Buffer).toString('utf8')));
  } catch (cause) {
    if (hasCode(cause, 'REPOSITORY_FORMAT_UNKNOWN')) throw cause;
    throw RepositoryErrors.REPOSITORY_HEADER_DAMAGED({ problem: cause instanceof Error ? cause.message : 'unknown' }, { cause });
  }
}
