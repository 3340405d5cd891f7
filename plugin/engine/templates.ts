/** Templates. Engine REST API §2. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { idOf, textOf } from './mapping';

export interface Template {
  readonly id: string;
  readonly name: string;
  readonly status: string | undefined;
  readonly clusterId: string | undefined;
}

export class Templates {
  constructor(private readonly client: EngineClient) {}

  async list(options: RequestOptions = {}): Promise<readonly Template[]> {
    const rows = await this.client.list('/templates', 'template', options);
    return rows.map((row) => ({
      id: textOf(row, 'id') ?? '',
      name: textOf(row, 'name') ?? '',
      status: textOf(row, 'status'),
      clusterId: idOf(row, 'cluster'),
    }));
  }
}
