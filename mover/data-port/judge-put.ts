import { DIGEST_BYTES, type PutFrame } from '../../proto/data-mover/frame-types';
import { BlockErrors } from '../errors/mover-errors';
import { BlockCodec, hexOf, isZero, payloadCheck } from '../format/block';

const knownCodecs: ReadonlySet<number> = new Set(Object.values(BlockCodec));

/**
 * Throws BLOCK_CORRUPT unless the stored form is what it says, as far as that can be told without decompressing. `expectedLength` is the raw length
 * of the block it was asked for, when it was.
 */
export function judgePut(put: PutFrame, payload: Buffer, blockSizeBytes: number, expectedLength: number | undefined): void {
  const corrupt = (problem: string) => BlockErrors.BLOCK_CORRUPT({ digest: hexOf(put.digest), problem });
  if (put.digest.length !== DIGEST_BYTES || isZero(put.digest as Buffer)) throw corrupt('its digest is not one of a block');
  if (put.rawLength < 1 || put.rawLength > blockSizeBytes || (expectedLength !== undefined && put.rawLength !== expectedLength))
    throw corrupt(`a block of ${put.rawLength} bytes does not belong there`);
  if (!knownCodecs.has(put.codec)) throw corrupt(`unknown codec ${put.codec}`);
  if (payload.length === 0 || (put.codec === BlockCodec.none && payload.length !== put.rawLength)) throw corrupt('its length is wrong');
  if (!payloadCheck(payload).equals(put.payloadCheck)) throw corrupt('it was changed on its way');
}
