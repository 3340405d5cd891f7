import type { JournalFile } from '../journal/journal-file';
import type { Clock } from '../operations/clock';

const never = new Promise<never>(() => undefined);

/**
 * A process that can be killed between any two of its effects: each engine request and each journal write is a step, and after the fatal
 * one nothing of this process happens any more. The effect of the fatal step itself has happened; its answer is lost.
 */
export class Mortal {
  steps = 0;
  dead = false;

  constructor(private readonly fatalStep = Number.POSITIVE_INFINITY) {}

  kill(): void {
    this.dead = true;
  }

  /** Runs one effect. */
  async step<T>(work: () => Promise<T>): Promise<T> {
    if (this.dead) return await never;
    this.steps += 1;
    if (this.steps === this.fatalStep) this.dead = true;
    const result = await work();
    return this.dead ? await never : result;
  }

  clock(clock: Clock): Clock {
    return {
      now: () => clock.now(),
      elapsed: () => clock.elapsed(),
      sleep: async (delayMs, signal) => {
        if (this.dead) return await never;
        await clock.sleep(delayMs, signal);
        if (this.dead) await never;
      },
    };
  }

  journalFile(file: JournalFile): JournalFile {
    return {
      read: () => file.read(),
      append: (text) => this.step(() => file.append(text)),
      replace: (text) => this.step(() => file.replace(text)),
      setAside: (text) => file.setAside(text),
      close: () => Promise.resolve(),
    };
  }

  /** All methods of an engine's resources as steps. */
  engine<T extends object>(engine: T): T {
    return new Proxy(engine, {
      get: (target, resource) => {
        const value: unknown = Reflect.get(target, resource);
        if (typeof value !== 'object' || value === null || value instanceof Map || value instanceof Set) return value;
        return new Proxy(value, {
          get: (inner, name) => {
            const method: unknown = Reflect.get(inner, name);
            if (typeof method !== 'function' || name === 'pages') return method;
            return (...args: unknown[]) => this.step(() => Reflect.apply(method, inner, args) as Promise<unknown>);
          },
        });
      },
    });
  }
}
