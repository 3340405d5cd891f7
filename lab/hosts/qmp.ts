import { type Socket, connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { HostError } from './driver';

/**
 * A client of qemu's monitor protocol (docs/interop/qmp-spec of qemu), also spoken by the guest agent without greeting. A monitor
 * socket serves one client: a second one waits for a greeting that never comes, so a fleet keeps exactly one client per qemu.
 */
export interface QmpEvent {
  readonly event: string;
  readonly data: Record<string, unknown>;
}

/** The monitor's own refusal; the message is qemu's. */
export class QmpRefusal extends HostError {
  constructor(
    readonly command: string,
    readonly description: string,
  ) {
    super('QEMU_REFUSED', `qemu refused ${command}: ${description}`);
  }
}

interface Waiter {
  readonly command: string;
  readonly timer: NodeJS.Timeout;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class QmpClient {
  readonly #waiters = new Map<number, Waiter>();
  readonly #eventListeners = new Set<(event: QmpEvent) => void>();
  readonly #closeListeners = new Set<() => void>();
  #nextId = 1;
  #buffer = '';
  #closed = false;
  #greeted: (() => void) | undefined;

  private constructor(readonly socket: Socket) {
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', () => undefined); // 'close' follows and tells everyone
    socket.on('close', () => this.#end());
  }

  /** Connects as soon as the socket is there, greets, and negotiates; retries until the deadline or until `alive` says no. */
  static async connect(path: string, timeoutMs: number, alive: () => boolean): Promise<QmpClient> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const socket = await tryConnect(path);
      if (socket !== undefined) {
        const client = new QmpClient(socket);
        try {
          await client.#waitForGreeting(Math.max(100, deadline - Date.now()));
          await client.execute('qmp_capabilities');
          return client;
        } catch (cause) {
          client.close();
          throw new HostError('HOST_DOWN', 'The monitor of qemu does not answer.', { cause });
        }
      }
      if (!alive()) throw new HostError('QEMU_REFUSED', 'qemu ended before its monitor could be reached.');
      if (Date.now() >= deadline) throw new HostError('HOST_DOWN', `No monitor at ${path} after ${timeoutMs} ms.`);
      await delay(20);
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#eventListeners.add(listener);
    return () => this.#eventListeners.delete(listener);
  }

  onClose(listener: () => void): void {
    this.#closeListeners.add(listener);
  }

  async execute<T = unknown>(command: string, args?: Record<string, unknown>, timeoutMs = 30_000): Promise<T> {
    if (this.#closed) throw new HostError('VM_NOT_RUNNING', 'qemu is gone.');
    const id = this.#nextId++;
    return await new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters.delete(id);
        reject(new HostError('HOST_DOWN', `qemu did not answer ${command} within ${timeoutMs} ms.`));
      }, timeoutMs);
      this.#waiters.set(id, { command, timer, resolve: (value) => resolve(value as T), reject });
      this.socket.write(`${JSON.stringify({ execute: command, ...(args === undefined ? {} : { arguments: args }), id })}\n`);
    });
  }

  /** Resolves with the first event that `accept` takes, from the moment of the call. */
  async nextEvent(accept: (event: QmpEvent) => boolean, timeoutMs: number, what: string): Promise<QmpEvent> {
    return await new Promise<QmpEvent>((resolve, reject) => {
      const stop = (): void => {
        clearTimeout(timer);
        forget();
        this.#closeListeners.delete(onClose);
      };
      const onClose = (): void => {
        stop();
        reject(new HostError('VM_NOT_RUNNING', `qemu ended while waiting for ${what}.`));
      };
      const timer = setTimeout(() => {
        stop();
        reject(new HostError('HOST_DOWN', `qemu did not report ${what} within ${timeoutMs} ms.`));
      }, timeoutMs);
      const forget = this.onEvent((event) => {
        if (!accept(event)) return;
        stop();
        resolve(event);
      });
      this.#closeListeners.add(onClose);
    });
  }

  close(): void {
    this.socket.destroy();
  }

  async #waitForGreeting(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new HostError('HOST_DOWN', 'No greeting: the monitor has another client.')), timeoutMs);
      this.#greeted = () => {
        clearTimeout(timer);
        resolve();
      };
      this.onClose(() => {
        clearTimeout(timer);
        reject(new HostError('VM_NOT_RUNNING', 'qemu closed its monitor.'));
      });
    });
  }

  #receive(text: string): void {
    this.#buffer += text;
    for (;;) {
      const end = this.#buffer.indexOf('\n');
      if (end < 0) return;
      const line = this.#buffer.slice(0, end).trim();
      this.#buffer = this.#buffer.slice(end + 1);
      if (line !== '') this.#dispatch(JSON.parse(line) as Record<string, unknown>);
    }
  }

  #dispatch(message: Record<string, unknown>): void {
    if ('QMP' in message) {
      this.#greeted?.();
      return;
    }
    if (typeof message['event'] === 'string') {
      const event: QmpEvent = { event: message['event'], data: (message['data'] ?? {}) as Record<string, unknown> };
      for (const listener of [...this.#eventListeners]) listener(event);
      return;
    }
    const waiter = this.#waiters.get(message['id'] as number);
    if (waiter === undefined) return; // answered after its time-out
    this.#waiters.delete(message['id'] as number);
    clearTimeout(waiter.timer);
    const error = message['error'] as { desc?: string } | undefined;
    if (error === undefined) waiter.resolve(message['return']);
    else waiter.reject(new QmpRefusal(waiter.command, error.desc ?? 'unknown error'));
  }

  #end(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const waiter of this.#waiters.values()) {
      clearTimeout(waiter.timer);
      waiter.reject(new HostError('VM_NOT_RUNNING', `qemu ended during ${waiter.command}.`));
    }
    this.#waiters.clear();
    for (const listener of [...this.#closeListeners]) listener();
  }
}

/** A connected socket, or undefined when nobody listens there yet. */
export async function tryConnect(path: string): Promise<Socket | undefined> {
  return await new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.removeAllListeners();
      resolve(socket);
    });
    socket.once('error', () => {
      socket.destroy();
      resolve(undefined);
    });
  });
}
