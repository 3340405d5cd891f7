/**
 * What a mover's store does on a folder, for tests that look at real shares from where they are mounted. Prints one JSON object.
 * `node share-writer.js contend FOLDER WRITER COUNT`: makes COUNT names unless another writer has, and raises one counter COUNT times.
 * `node share-writer.js fill FOLDER`: writes large objects until one fails, removes them, and writes again.
 */
import { alignedBuffer } from '../stores/aligned-buffer';
import { DirectoryStore } from '../stores/directory-store';
import { STORE_PIECE_BYTES, type Store } from '../stores/store';

const [mode, folder = '', writer = 'writer', count = '0'] = process.argv.slice(2);

async function contend(store: Store): Promise<object> {
  const won: string[] = [];
  await store.putNew('writers/counter', Buffer.from('0'));
  for (let i = 0; i < Number(count); i++) {
    if (await store.putNew(`writers/name-${i}`, Buffer.from(writer))) won.push(`name-${i}`);
    for (let raised = false; !raised;) {
      const before = await store.readWhole('writers/counter', 99);
      raised = await store.swap('writers/counter', before, Buffer.from(String(Number(before.toString()) + 1)));
    }
  }
  return { won };
}

async function fill(store: Store): Promise<object> {
  const piece = alignedBuffer(STORE_PIECE_BYTES).fill(7);
  let failure: { code?: string; message?: string } = {};
  let whole = 0;
  while (failure.code === undefined) {
    const object = await store.create(`packs/aa/${whole}`);
    try {
      for (let i = 0; i < 4; i++) await object.append(piece);
      await object.finish(alignedBuffer(STORE_PIECE_BYTES), 5000);
      whole += 1;
    } catch (error) {
      failure = error as { code?: string; message?: string };
      await object.abandon();
    }
  }
  const listed: string[] = [];
  for await (const name of store.list('packs/')) listed.push(name);
  for (const name of listed) await store.delete(name);
  await store.put('points/after', Buffer.from('there is room again'));
  return { whole, listed: listed.length, code: failure.code, message: failure.message };
}

async function run(): Promise<void> {
  const store = new DirectoryStore(folder, { writer });
  const found = await (mode === 'fill' ? fill(store) : contend(store));
  await store.close();
  process.stdout.write(`${JSON.stringify(found)}\n`);
}

void run();
