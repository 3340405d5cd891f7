/** Networks and vNIC profiles. Engine REST API §2. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { idOf, objectOf, textOf } from './mapping';
import type { Wire } from './mapping';

export interface Network {
  readonly id: string;
  readonly name: string;
  readonly dataCenterId: string | undefined;
  /** The cluster's management network; told only in the listing of a cluster. */
  readonly management?: boolean;
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
    return (await this.client.list('/networks', 'network', options)).map(networkOf);
  }

  /** Those that hosts of the cluster are to have. */
  async ofCluster(clusterId: string, options: RequestOptions = {}): Promise<readonly Network[]> {
    return (await this.client.list(`/clusters/${clusterId}/networks`, 'network', options)).map(networkOf);
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

function networkOf(row: Wire): Network {
  const usages = objectOf(row, 'usages')?.['usage'];
  return {
    id: textOf(row, 'id') ?? '',
    name: textOf(row, 'name') ?? '',
    dataCenterId: idOf(row, 'data_center'),
    management: Array.isArray(usages) && usages.includes('management'),
  };
}
