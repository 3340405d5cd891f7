/** Networks and vNIC profiles. Engine REST API §2. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { idOf, objectOf, textOf } from './mapping';

export interface Network {
  readonly id: string;
  readonly name: string;
  readonly dataCenterId: string | undefined;
}

export interface VnicProfile {
  readonly id: string;
  readonly name: string;
  readonly networkId: string | undefined;
  readonly passThrough: boolean;
}

export class Networks {
  constructor(private readonly client: EngineClient) {}

  async list(options: RequestOptions = {}): Promise<readonly Network[]> {
    const rows = await this.client.list('/networks', 'network', options);
    return rows.map((row) => ({ id: textOf(row, 'id') ?? '', name: textOf(row, 'name') ?? '', dataCenterId: idOf(row, 'data_center') }));
  }

  async vnicProfiles(options: RequestOptions = {}): Promise<readonly VnicProfile[]> {
    const rows = await this.client.list('/vnicprofiles', 'vnic_profile', options);
    return rows.map((row) => {
      const passThrough = objectOf(row, 'pass_through');
      return {
        id: textOf(row, 'id') ?? '',
        name: textOf(row, 'name') ?? '',
        networkId: idOf(row, 'network'),
        passThrough: passThrough !== undefined && textOf(passThrough, 'mode') === 'enabled',
      };
    });
  }
}
