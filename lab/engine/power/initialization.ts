/**
 * Whether a start of a machine comes with a config drive, and with which content. Source: reference "oVirt engine REST API" section 9.2.
 */
import { flagOf, objectOf, textOf, type ApiObject } from '../http/api-object';
import { badRequest, conflict } from '../http/fault';
import type { Vm } from '../model/entities';
import { configDrive, initializationProblem, type ConfigDrive } from './config-drive';

const FLAGS = ['use_cloud_init', 'use_sysprep', 'use_ignition'] as const;

/**
 * The drive of this start, if there is one. A `vm` element makes it a run once: its `initialization` is laid over the stored one and is not
 * kept. Without any flag, a machine that never ran gets what is stored, if its system can read it.
 */
export function configDriveOfStart(vm: Vm, body: ApiObject): ConfigDrive | undefined {
  const wanted = FLAGS.filter((flag) => flagOf(body, flag) === true);
  if (wanted.length > 1) {
    throw conflict('CANT_USE_MIXED_INIT_SIMULTANEOUSLY', 'Cloud-Init, Sysprep and Ignition cannot be used together.');
  }
  const system = textOf(objectOf(objectOf(body, 'vm') ?? {}, 'os'), 'type') ?? textOf(objectOf(vm.attributes, 'os'), 'type') ?? 'other';
  const stored = objectOf(vm.attributes, 'initialization');
  const given = objectOf(objectOf(body, 'vm'), 'initialization');
  const initialization: ApiObject = { ...stored, ...given };
  const problem = given === undefined ? undefined : initializationProblem(given);
  if (problem !== undefined) {
    throw badRequest('VM_INIT_INVALID', `Cannot run VM. ${problem}`);
  }
  const [flag] = wanted;
  if (flag === 'use_cloud_init') {
    if (!readsConfigDrive(system)) {
      throw conflict(
        'CLOUD_INIT_NOT_SUPPORTED_BY_OS',
        `Cannot run VM. The operating system ${system} of ${vm.name} does not support Cloud-Init.`,
      );
    }
    return configDrive(initialization);
  }
  if (flag !== undefined) {
    throw badRequest('LAB_HAS_NO_SUCH_INITIALIZATION', `The lab makes no drive for ${flag}.`);
  }
  if (FLAGS.some((name) => flagOf(body, name) === false)) {
    return undefined;
  }
  const asked = flagOf(body, 'use_initialization') === true;
  const firstRun = vm.initialized !== true && (stored !== undefined || given !== undefined);
  return (asked || firstRun) && readsConfigDrive(system) ? configDrive(initialization) : undefined;
}

/** Linux types, and the nameless ones; Windows reads Sysprep only. */
function readsConfigDrive(system: string): boolean {
  return !/^windows|^other$|^freebsd/.test(system);
}
