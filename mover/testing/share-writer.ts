/**
 * What movers' stores do, for tests that look at real shares from where they are mounted: `node share-writer.js COUNT FOLDER,FOLDER ...`, each pair the same
 * folder of a share by two mounts, which stand for two machines. Both make COUNT names unless the other one has, and raise one counter COUNT times; then
 * the first writes large objects until one fails, removes them, and writes again. Prints what was found for each pair.
 */
import { alignedBuffer } from '../stores/aligned-buffer';
import { DirectoryStore } from '../stores/directory-store';
import { STORE_PIECE_BYTES, type Store } from '../stores/store';

async function contend(store: Store, writer: string, count: number): Promise<{ won: readonly string[] }> {
  const won: string[] = [];
  await store.putNew('writers/counter', Buffer.from('0'));
  for (let i = 0; i < count; i++) {
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
      for (let i = 0; i < 2; i++) await object.append(piece);
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

/** All that a pair of folders, which are the same one by two mounts, is tried with. */
async function tryPair(folders: readonly string[], count: number): Promise<object> {
  const stores = folders.map((folder, index) => new DirectoryStore(folder, { writer: `writer-${index}` }));
  const contended = await Promise.all(stores.map((store, index) => contend(store, `writer-${index}`, count)));
  const filled = await fill(stores[0]!);
  for (const store of stores) await store.close();
  return { contended, filled };
}

async function run([count, ...pairs]: readonly string[]): Promise<void> {
  const found = await Promise.all(pairs.map((pair) => tryPair(pair.split(','), Number(count))));
  process.stdout.write(`${JSON.stringify(found)}\n`);
}

void run(process.argv.slice(2));
