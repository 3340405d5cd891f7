/**
 * A repository with as many blocks as wanted and no data: packs whose header and trailer are right, with a hole where the blocks would lie. Everything that
 * reads entry lists sees the real thing; reading a block finds zeroes.
 */
import fs from 'node:fs';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { blake3 } from '@napi-rs/blake-hash';
import { BlockCodec, BlockKind } from '../../format/block';
import { packHeader, packTrailer, PACK_HEADER_BYTES, type PackEntry } from '../../format/pack';
import { packName, uuidBytes, uuidText } from '../../repository/blocks/pack-table';

/** Blocks of 1 MiB that compress to half: 64 MiB of them in a pack. */
const BLOCKS_PER_PACK = 128;
const storedLength = 512 * 1024;
const rawLength = 1024 * 1024;

/** Digest of the block of that number. */
export function syntheticDigest(number: number): Buffer {
  const seed = Buffer.alloc(8);
  seed.writeBigUInt64BE(BigInt(number));
  return blake3(seed);
}

/** Writes packs with `blocks` blocks below `root`; the last one may hold fewer. */
export async function writeSyntheticPacks(root: string, repositoryId: string, blocks: number): Promise<void> {
  const packs = Math.ceil(blocks / BLOCKS_PER_PACK);
  for (let pack = 0; pack < packs; pack++) {
    const first = pack * BLOCKS_PER_PACK;
    writePack(root, repositoryId, pack, first, Math.min(blocks, first + BLOCKS_PER_PACK));
    // Memory of digests is given back between turns of the event loop only.
    await setImmediate();
  }
}

function writePack(root: string, repositoryId: string, pack: number, first: number, end: number): void {
  const id = uuidText(blake3(Buffer.from(`pack ${pack}`)).subarray(0, 16));
  const entries: PackEntry[] = [];
  for (let number = first; number < end; number++)
    entries.push({
      digest: syntheticDigest(number),
      offset: PACK_HEADER_BYTES + (number - first) * storedLength,
      storedLength,
      rawLength,
      codec: BlockCodec.zstd,
      kind: BlockKind.data,
    });
  const listOffset = PACK_HEADER_BYTES + entries.length * storedLength;
  const file = path.join(root, packName(id));
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const descriptor = fs.openSync(file, 'w');
  fs.writeSync(descriptor, packHeader(uuidBytes(id), uuidBytes(repositoryId)), 0, undefined, 0);
  const trailer = packTrailer(uuidBytes(id), entries, listOffset);
  fs.writeSync(descriptor, trailer, 0, trailer.length, listOffset);
  fs.closeSync(descriptor);
}
