/** What this process takes, for figures of scale. */
import { setImmediate } from 'node:timers/promises';
import v8 from 'node:v8';
import vm from 'node:vm';

/** The most resident memory of the whole process while it lives. */
export class PeakMemory implements Disposable {
  bytes = 0;
  private readonly timer = setInterval(() => this.sample(), 20);

  sample(): void {
    this.bytes = Math.max(this.bytes, process.memoryUsage.rss());
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
  }
}

/** Bytes in use once garbage is gone; memory of digests is given back between turns of the event loop only. */
export async function heldMemory(): Promise<number> {
  v8.setFlagsFromString('--expose-gc');
  const collectGarbage = vm.runInNewContext('gc') as () => void;
  for (let round = 0; round < 3; round++) {
    collectGarbage();
    await setImmediate();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Of all threads of this process. */
export function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
