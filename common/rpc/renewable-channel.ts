/**
 * A client's channel over renewals of the own certificate. TLS shows a certificate once, when a connection is made; so after a renewal new calls
 * get a new connection, and the old one is drained: it closes when its last call is over, at the latest after {@link connectionDrainMs}.
 */
import type { ChannelCredentials, ChannelOptions, Client } from '@grpc/grpc-js';

/**
 * How long a connection may outlive the renewal of a certificate at either end. Longer than the longest deadline of a call (120 s), so that only
 * streams are cut; whoever needs a stream opens it again.
 */
export const connectionDrainMs = 150_000;

/** Credentials that follow the renewals of an identity. */
export interface RenewableCredentials {
  readonly channel: ChannelCredentials;
  /** Counts the renewals: clients share a connection only when they were made under the same. */
  readonly generation: number;
  /** How long an old connection may take to end its calls. */
  readonly drainMs: number;
  /** Called after each renewal; returns the way to stop. */
  onReplaced(listener: () => void): () => void;
}

/** A call under way; tells its end with `leave`. */
export interface ChannelUse {
  readonly client: Client;
  /** True once the call was cut because its connection had to go. */
  readonly isCut: boolean;
  leave(): void;
}

interface Line {
  readonly client: Client;
  readonly uses: Set<() => void>;
  retired: NodeJS.Timeout | undefined;
}

export class RenewableChannel {
  #line: Line;
  readonly #retired = new Set<Line>();
  readonly #unfollow: () => void;

  constructor(
    private readonly connect: (credentials: ChannelCredentials, options: ChannelOptions) => Client,
    private readonly credentials: ChannelCredentials | RenewableCredentials,
  ) {
    this.#line = this.#open();
    this.#unfollow = 'onReplaced' in credentials ? credentials.onReplaced(() => this.#renew(credentials.drainMs)) : () => undefined;
  }

  /** For one call; `cut` ends it when the connection has to go. Leave it when the call is over. */
  enter(cut: () => void): ChannelUse {
    const line = this.#line;
    let isCut = false;
    const end = () => {
      isCut = true;
      cut();
    };
    line.uses.add(end);
    return {
      client: line.client,
      get isCut() {
        return isCut;
      },
      leave: () => {
        if (line.uses.delete(end) && line.uses.size === 0 && line.retired) this.#close(line);
      },
    };
  }

  close(): void {
    this.#unfollow();
    for (const line of [...this.#retired]) this.#close(line);
    this.#line.client.close();
  }

  #open(): Line {
    const { credentials } = this;
    // An option that nobody reads: it keeps grpc-js from giving the new channel the connection of the old one.
    const client =
      'onReplaced' in credentials
        ? this.connect(credentials.channel, { 'tidemark.generation': credentials.generation })
        : this.connect(credentials, {});
    return { client, uses: new Set(), retired: undefined };
  }

  #renew(drainMs: number): void {
    const old = this.#line;
    this.#line = this.#open();
    if (old.uses.size === 0) return old.client.close();
    this.#retired.add(old);
    old.retired = setTimeout(() => {
      for (const end of [...old.uses]) end();
      this.#close(old);
    }, drainMs);
    old.retired.unref();
  }

  #close(line: Line): void {
    clearTimeout(line.retired);
    if (this.#retired.delete(line)) line.client.close();
  }
}
