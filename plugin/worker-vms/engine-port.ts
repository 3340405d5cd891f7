/** What worker VMs need of an engine beside what protection and the janitor need; see protection/engine-port.ts. */
import type { AffinityGroups } from '../engine/affinity-groups';
import type { Disks } from '../engine/disks';
import type { GraphicsConsoles } from '../engine/graphics-consoles';
import type { Hosts } from '../engine/hosts';
import type { Networks } from '../engine/networks';
import type { Nics } from '../engine/nics';
import type { Tags } from '../engine/tags';
import type { Vms } from '../engine/vms';
import type { EngineApi } from '../protection/engine-port';

export interface WorkerEngine extends EngineApi {
  /** Canonical, ends in /ovirt-engine. */
  readonly url: string;
  readonly webCaPem: string;
  readonly affinityGroups: EngineApi['affinityGroups'] & Pick<AffinityGroups, 'createSoftAntiAffinity'>;
  readonly disks: EngineApi['disks'] & Pick<Disks, 'copy' | 'update'>;
  readonly graphicsConsoles: Pick<GraphicsConsoles, 'removeAll'>;
  readonly hosts: Pick<Hosts, 'list'>;
  readonly networks: EngineApi['networks'] & Pick<Networks, 'ofCluster'>;
  readonly nics: EngineApi['nics'] & Pick<Nics, 'list'>;
  readonly tags: EngineApi['tags'] & Pick<Tags, 'ensure'>;
  readonly vms: EngineApi['vms'] & Pick<Vms, 'startWithCloudInit' | 'stop' | 'shutdown' | 'pages'>;
}

export interface WorkerEngines {
  /** Throws PLATFORM_NOT_FOUND. */
  of(platformId: string): WorkerEngine;
  platformIds(): readonly string[];
}
