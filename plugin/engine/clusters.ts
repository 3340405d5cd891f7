/** Clusters; their compatibility level is what switches features. Engine REST API §2. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { idOf, objectOf, textOf, versionOf } from './mapping';
import type { Version, Wire } from './mapping';

export interface Cluster {
  readonly id: string;
  readonly name: string;
  readonly dataCenterId: string | undefined;
  readonly version: Version | undefined;
  readonly architecture: string | undefined;
  readonly biosType: string | undefined;
}

export class Clusters {
  constructor(private readonly client: EngineClient) {}

  async list(options: RequestOptions = {}): Promise<readonly Cluster[]> {
    return (await this.client.list('/clusters', 'cluster', options)).map(clusterOf);
  }

  async find(clusterId: string, options: RequestOptions = {}): Promise<Cluster | undefined> {
    const wire = await this.client.find(`/clusters/${clusterId}`, options);
    return wire && clusterOf(wire);
  }
}

function clusterOf(wire: Wire): Cluster {
  const cpu = objectOf(wire, 'cpu');
  return {
    id: textOf(wire, 'id') ?? '',
    name: textOf(wire, 'name') ?? '',
    dataCenterId: idOf(wire, 'data_center'),
    version: versionOf(wire, 'version'),
    architecture: cpu && textOf(cpu, 'architecture'),
    biosType: textOf(wire, 'bios_type'),
  };
}
