/** Writes one object of each kind into FOLDER, for tests that watch the system calls: `node store-child.js FOLDER`. Prints a line after each. */
import fs from 'node:fs';
import { alignedBuffer } from '../stores/aligned-buffer';
import { DirectoryStore } from '../stores/directory-store';
import { STORE_PIECE_BYTES } from '../stores/store';

async function run(folder: string): Promise<void> {
  const store = new DirectoryStore(folder, { writer: 'child' });
  // To a file, so that the trace shows what was told when.
  const told = (word: string) => fs.writeSync(1, `told ${word}\n`);
  await store.put('points/a/b', Buffer.from('one'));
  told('points/a/b');
  await store.put('points/a/b', Buffer.from('two'));
  told('points/a/b');
  await store.putNew('writers/c', Buffer.from('three'));
  told('writers/c');
  await store.swap('writers/c', Buffer.from('three'), Buffer.from('four'));
  told('writers/c');
  for (const [name, length] of [
    ['packs/aa/x', 5000],
    ['packs/aa/y', STORE_PIECE_BYTES],
  ] as const) {
    const writer = await store.create(name);
    await writer.append(alignedBuffer(STORE_PIECE_BYTES).fill(1));
    await writer.finish(alignedBuffer(STORE_PIECE_BYTES).fill(2), length);
    told(name);
  }
  await store.close();
}

void run(process.argv[2] as string);
