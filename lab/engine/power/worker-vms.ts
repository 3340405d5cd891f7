/**
 * What really runs in the product's worker VMs, and what kind of machine a VM is. A worker VM is known by the seed among the files of its
 * user data (docs/formats/worker-seed.md).
 */
import { seedPath } from '../../../common/appliance/seed';
import type { VmSpec } from '../../hosts/driver';
import type { Database } from '../model/database';
import type { Vm } from '../model/entities';
import type { EngineSettings } from '../model/settings';
import { biosTypeOf } from '../vms/ovf-writer';
import { USER_DATA, type ConfigDrive } from './config-drive';

export function guestOfRun(settings: EngineSettings, drive: ConfigDrive | undefined): Vm['guestOfRun'] {
  if (settings.workerVms === 'none' || drive?.[USER_DATA]?.includes(seedPath) !== true) {
    return undefined;
  }
  return settings.workerVms === 'guest' ? 'disk' : 'process';
}

export function machineOf(db: Database, vm: Vm): NonNullable<VmSpec['machine']> {
  const type = biosTypeOf(db, vm);
  return {
    chipset: type === 'i440fx_sea_bios' ? 'i440fx' : 'q35',
    firmware: type === 'q35_ovmf' || type === 'q35_secure_boot' ? 'uefi' : 'bios',
  };
}
