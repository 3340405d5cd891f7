import dns from 'node:dns/promises';
import net from 'node:net';

/** How this machine finds addresses; a port, so that tests have one of their own. */
export interface NameService {
  /** As connections are made: hosts file, then DNS. Rejects with a `code`. */
  lookup(name: string): Promise<readonly string[]>;
  /** DNS servers of this machine, `address` or `address:port`. */
  servers(): readonly string[];
  /** Addresses that this one server knows. Rejects with a `code`: ETIMEOUT when it is silent. */
  ask(server: string, name: string): Promise<readonly string[]>;
}

const askTimeoutMs = 2_000;

export const systemNames: NameService = {
  async lookup(name) {
    // In the order of the system's policy, which connections follow too.
    return (await dns.lookup(name, { all: true, order: 'verbatim' })).map((one) => one.address);
  },
  // A resolver of its own reads the system's settings as they are now; the shared one has those from before a worker VM had its network.
  servers: () => new dns.Resolver().getServers(),
  async ask(server, name) {
    const resolver = new dns.Resolver({ timeout: askTimeoutMs, tries: 1 });
    resolver.setServers([server]);
    const answers = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
    const addresses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
    const refusals = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as NodeJS.ErrnoException] : []));
    if (addresses.length > 0) return addresses;
    // "No such record" of one family says less than the other family's answer.
    throw refusals.find((refusal) => refusal.code !== 'ENODATA') ?? refusals[0] ?? silence(name);
  },
};

/** The addresses of a host; itself when it is one. */
export async function addressesOf(host: string, names: NameService): Promise<readonly string[]> {
  return net.isIP(host) ? [host] : names.lookup(host);
}

/** Look-ups by the system's resolver take threads that disk reads need too. */
const lookupsAtATime = 2;
const lookupTimeoutMs = 6_000;
/** So many silent look-ups, and the servers are taken for dead: no more threads are given to them. */
const silentEnough = lookupsAtATime;

/** The names of one self-test: each is looked up once, a few at a time, and dead servers do not hold everything up. */
export class NamesOnce implements NameService {
  private readonly known = new Map<string, Promise<readonly string[]>>();
  private turns: (() => void)[] = [];
  private running = 0;
  private silent = 0;

  constructor(
    private readonly names: NameService,
    private readonly timeoutMs = lookupTimeoutMs,
  ) {}

  lookup(name: string): Promise<readonly string[]> {
    let found = this.known.get(name);
    if (!found) {
      found = this.inTurn(name);
      // Whoever asks sees the failure.
      found.catch(() => undefined);
      this.known.set(name, found);
    }
    return found;
  }

  servers(): readonly string[] {
    return this.names.servers();
  }

  ask(server: string, name: string): Promise<readonly string[]> {
    return this.names.ask(server, name);
  }

  private async inTurn(name: string): Promise<readonly string[]> {
    while (this.running >= lookupsAtATime && this.silent < silentEnough) await new Promise<void>((resolve) => this.turns.push(resolve));
    if (this.silent >= silentEnough) throw silence(name);
    this.running += 1;
    const answered = this.names.lookup(name).finally(() => {
      // Only now is its thread free again, however long ago we gave up.
      this.running -= 1;
      this.wakeAll();
    });
    return this.inTime(name, answered);
  }

  private async inTime(name: string, answered: Promise<readonly string[]>): Promise<readonly string[]> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.silent += 1;
        this.wakeAll();
        reject(silence(name));
      }, this.timeoutMs);
    });
    try {
      return await Promise.race([answered, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  private wakeAll(): void {
    for (const wake of this.turns.splice(0)) wake();
  }
}

function silence(name: string): Error {
  return Object.assign(new TypeError(`${name}: no answer`), { code: 'ETIMEOUT' });
}
