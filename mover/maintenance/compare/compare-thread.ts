/** Entry of a thread that compares blocks for a verification. Started by CompareThreads only. */
import { parentPort, workerData } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { DIGEST_BYTES } from '../../format/block';
import { PackCipher } from '../../format/pack-cipher';
import { uuidBytes } from '../../repository/blocks/pack-table';
import { BlockComparer } from './compare-block';
import type { CompareReply, CompareRequest, ThreadStart } from './compare-messages';

const port = parentPort as MessagePort;
const comparer = new BlockComparer(Buffer.from((workerData as ThreadStart).digestKey));

port.on('message', (message: CompareRequest) => {
  const { request, memory } = message;
  try {
    port.postMessage({ request, memory, problems: compare(message) } satisfies CompareReply, [memory]);
  } catch (error) {
    port.postMessage({ request, failure: error instanceof Error ? (error.stack ?? error.message) : String(error) } satisfies CompareReply);
  }
});

function compare({ memory, length, start, packId, dataKey, entries, digests }: CompareRequest) {
  const found = Buffer.from(memory, 0, length);
  const cipher = dataKey && new PackCipher(Buffer.from(dataKey.key), dataKey.keyId, uuidBytes(packId));
  return entries.map((entry, i) => {
    const digest = Buffer.from(digests.buffer, digests.byteOffset + i * DIGEST_BYTES, DIGEST_BYTES);
    return comparer.problemOf({ ...entry, digest }, found, start, cipher);
  });
}
