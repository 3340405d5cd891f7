/**
 * What `read` gives for each item, in the order of the items, up to `atOnce` of them under way: a store that is far away takes as long for one small object as for
 * several. What a failed read throws is thrown in its turn. Who stops early waits for what is under way.
 */
export async function* readAhead<T, R>(items: Iterable<T>, atOnce: number, read: (item: T) => Promise<R>): AsyncGenerator<R> {
  const next = items[Symbol.iterator]();
  const running: Promise<R>[] = [];
  const begin = () => {
    for (let item = next.next(); item.done !== true; item = next.next()) {
      const reading = read(item.value);
      // Whatever it is, it is told when its turn comes.
      reading.catch(() => undefined);
      running.push(reading);
      if (running.length >= atOnce) return;
    }
  };
  try {
    for (begin(); running.length > 0; begin()) {
      const read = await (running[0] as Promise<R>);
      void running.shift();
      yield read;
    }
  } finally {
    await Promise.allSettled(running);
  }
}
