/** Hosts: only those that are up serve transfers. Engine REST API §2. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { idOf, objectOf, textOf } from './mapping';

export interface Host {
  readonly id: string;
  readonly name: string;
  /** What imageio URLs name. */
  readonly address: string;
  readonly status: string | undefined;
  readonly clusterId: string | undefined;
  readonly vdsmVersion: string | undefined;
}

export class Hosts {
  constructor(private readonly client: EngineClient) {}

  async list(options: RequestOptions = {}): Promise<readonly Host[]> {
    const rows = await this.client.list('/hosts', 'host', options);
    return rows.map((row) => {
      const version = objectOf(row, 'version');
      return {
        id: textOf(row, 'id') ?? '',
        name: textOf(row, 'name') ?? '',
        address: textOf(row, 'address') ?? '',
        status: textOf(row, 'status'),
        clusterId: idOf(row, 'cluster'),
        vdsmVersion: version && textOf(version, 'full_version'),
      };
    });
  }
}
