import { refOf } from './href';
import type { ApiObject } from './api-object';
import type { FieldType } from './schema';

/**
 * Sub-collections (`link`) and actions that the engine lists with every entity of a type; the real lists come from its service tree.
 */
const SUB_COLLECTIONS: Readonly<Partial<Record<FieldType, string>>> = {
  api: 'affinitylabels clusters cpuprofiles datacenters diskprofiles disks events hosts imagetransfers jobs macpools networks permissions roles storageconnections storagedomains tags templates users vms vnicprofiles',
  vm: 'affinitylabels applications backups cdroms checkpoints diskattachments graphicsconsoles hostdevices katelloerrata mediateddevices nics numanodes permissions reporteddevices sessions snapshots statistics tags watchdogs',
  backup: 'disks',
  checkpoint: 'disks',
  snapshot: 'cdroms disks nics',
  disk: 'disksnapshots permissions statistics',
  nic: 'networkfilterparameters reporteddevices statistics',
  template: 'cdroms diskattachments graphicsconsoles nics permissions tags watchdogs',
  data_center: 'clusters iscsibonds networks permissions qoss quotas storagedomains',
  cluster:
    'affinitygroups cpuprofiles enabledfeatures externalnetworkproviders glusterhooks glustervolumes networkfilters networks permissions',
  host: 'affinitylabels devices hooks katelloerrata networkattachments nics numanodes permissions statistics storage storageconnectionextensions tags unmanagednetworks',
  storage_domain: 'diskprofiles disks disksnapshots files images permissions storageconnections templates vms',
  network: 'networklabels permissions vnicprofiles',
  vnic_profile: 'permissions',
  affinity_group: 'hostlabels hosts vmlabels vms',
  job: 'steps',
  step: 'statistics',
  user: 'domainusers eventsubscriptions options permissions roles sshpublickeys tags',
  role: 'permits',
};

const ACTIONS: Readonly<Partial<Record<FieldType, string>>> = {
  vm: 'autopincpuandnumanodes cancelmigration clone commitsnapshot detach export freezefilesystems logon maintenance migrate previewsnapshot reboot reordermacaddresses reset screenshot shutdown start stop suspend thawfilesystems ticket undosnapshot',
  backup: 'finalize',
  snapshot: 'restore',
  disk: 'convert copy export move reduce refreshlun sparsify',
  image_transfer: 'cancel extend finalize pause resume',
  nic: 'activate deactivate',
  storage_domain: 'activate deactivate isattached reduceluns refreshluns updateovfstore',
  host: 'activate approve commitnetconfig deactivate enrollcertificate fence forceselectspm install refresh setupnetworks upgrade upgradecheck',
  data_center: 'cleanfinishedtasks setmaster',
  job: 'clear end',
  step: 'end',
  event: '',
};

const SEARCHABLE = [
  'clusters',
  'datacenters',
  'disks',
  'events',
  'hosts',
  'jobs',
  'networks',
  'storagedomains',
  'templates',
  'users',
  'vms',
];

const words = (text: string | undefined): readonly string[] => (text === undefined || text === '' ? [] : text.split(' '));

/** Rels of the sub-collections of a type: also what `follow` may inline. */
export const subCollections = (type: FieldType): readonly string[] => words(SUB_COLLECTIONS[type]);

export function linksOf(type: FieldType, href: string): ApiObject[] {
  const links = subCollections(type).map((rel) => ({ href: `${href}/${rel}`, rel }));
  const searches = type === 'api' ? SEARCHABLE.map((rel) => ({ href: `${href}/${rel}?search={query}`, rel: `${rel}/search` })) : [];
  return [...links, ...searches];
}

export const actionsOf = (type: FieldType, href: string): ApiObject[] =>
  words(ACTIONS[type]).map((rel) => ({ href: `${href}/${rel}`, rel }));

/** References to many entities of one collection. */
export const refsOf = (collection: string, ids: readonly string[]): ApiObject[] => ids.map((id) => refOf(collection, id));
