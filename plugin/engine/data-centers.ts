/** Data centres. Engine REST API §2. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { flagOf, textOf, versionOf } from './mapping';
import type { Version } from './mapping';

export interface DataCenter {
  readonly id: string;
  readonly name: string;
  readonly status: string | undefined;
  readonly local: boolean;
  readonly version: Version | undefined;
  /** disabled, audit, enabled: with enabled every disk and VM must name a quota. */
  readonly quotaMode: string | undefined;
}

export class DataCenters {
  constructor(private readonly client: EngineClient) {}

  async list(options: RequestOptions = {}): Promise<readonly DataCenter[]> {
    const rows = await this.client.list('/datacenters', 'data_center', options);
    return rows.map((row) => ({
      id: textOf(row, 'id') ?? '',
      name: textOf(row, 'name') ?? '',
      status: textOf(row, 'status'),
      local: flagOf(row, 'local'),
      version: versionOf(row, 'version'),
      quotaMode: textOf(row, 'quota_mode'),
    }));
  }
}
