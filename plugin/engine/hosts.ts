/** Hosts: only those that are up serve transfers. Engine REST API §2. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { idOf, integerOf, nestedOf, objectOf, textOf } from './mapping';

export interface Host {
  readonly id: string;
  readonly name: string;
  /** What imageio URLs name. */
  readonly address: string;
  readonly status: string | undefined;
  readonly clusterId: string | undefined;
  readonly vdsmVersion: string | undefined;
  /** What a new VM may take at most; absent when the host is not up. */
  readonly schedulableMemoryBytes?: number | undefined;
  /** Undefined unless asked for. */
  readonly tags?: readonly string[] | undefined;
}

export class Hosts {
  constructor(private readonly client: EngineClient) {}

  async list(options: RequestOptions & { readonly withTags?: boolean } = {}): Promise<readonly Host[]> {
    const { withTags, ...rest } = options;
    const rows = await this.client.list('/hosts', 'host', { ...rest, query: { follow: withTags === true ? 'tags' : undefined } });
    return rows.map((row) => {
      const version = objectOf(row, 'version');
      return {
        id: textOf(row, 'id') ?? '',
        name: textOf(row, 'name') ?? '',
        address: textOf(row, 'address') ?? '',
        status: textOf(row, 'status'),
        clusterId: idOf(row, 'cluster'),
        vdsmVersion: version && textOf(version, 'full_version'),
        schedulableMemoryBytes: integerOf(row, 'max_scheduling_memory'),
        tags: withTags === true ? nestedOf(row, 'tags', 'tag').flatMap((tag) => textOf(tag, 'name') ?? []) : undefined,
      };
    });
  }
}
