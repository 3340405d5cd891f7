/**
 * Compares what the roles of our user permit with what each use of the product needs. Source of the lists: product defaults §4. Pure.
 */
import type { GrantedRole } from '../engine/access';

export interface Finding {
  /** e.g. login, version, perm:BACKUP_DISK. */
  readonly check: string;
  readonly passed: boolean;
  readonly message: string;
  /** What to do; empty when passed. */
  readonly advice: string;
}

export type Profile = 'backup' | 'restore';

interface Permit {
  readonly name: string;
  readonly neededFor: string;
  readonly profiles: readonly Profile[];
}

const permits: readonly Permit[] = [
  { name: 'LOGIN', neededFor: 'using the API at all', profiles: ['backup', 'restore'] },
  { name: 'BACKUP_DISK', neededFor: 'starting and ending backups and removing checkpoints', profiles: ['backup', 'restore'] },
  { name: 'EDIT_DISK_PROPERTIES', neededFor: 'image transfers of existing disks', profiles: ['backup', 'restore'] },
  { name: 'CREATE_DISK', neededFor: 'restored disks', profiles: ['restore'] },
  { name: 'ATTACH_DISK', neededFor: 'attaching restored disks', profiles: ['restore'] },
  { name: 'DELETE_DISK', neededFor: 'cleaning up a failed restore', profiles: ['restore'] },
  { name: 'CONFIGURE_VM_STORAGE', neededFor: 'attaching disks', profiles: ['restore'] },
  { name: 'CREATE_VM', neededFor: 'restored VMs', profiles: ['restore'] },
  { name: 'EDIT_VM_PROPERTIES', neededFor: 'restored VMs', profiles: ['restore'] },
  { name: 'DELETE_VM', neededFor: 'cleaning up a failed restore', profiles: ['restore'] },
  { name: 'IMPORT_EXPORT_VM', neededFor: 'VMs from their stored configuration', profiles: ['restore'] },
  { name: 'CONFIGURE_VM_NETWORK', neededFor: 'NICs of restored VMs', profiles: ['restore'] },
  { name: 'RUN_VM', neededFor: 'powering restored VMs on', profiles: ['restore'] },
];

const profileNames: Record<Profile, string> = { backup: 'backup-only', restore: 'backup+restore' };

/** One finding per permit, then one per profile that names the first permit it misses. `roles` undefined: the API does not tell. */
export function probePermissions(roles: readonly GrantedRole[] | undefined): readonly Finding[] {
  if (roles === undefined || roles.length === 0) {
    return [
      {
        check: 'permissions',
        passed: true,
        message:
          'The engine does not show the roles of this user (they may come from a group), so permits are only found missing when they are used.',
        advice: '',
      },
    ];
  }
  const findings: Finding[] = permits.map((permit) => permitFinding(permit, roles));
  for (const profile of ['backup', 'restore'] as const) {
    const missing = permits.find((permit) => permit.profiles.includes(profile) && !holders(permit, roles).length);
    findings.push({
      check: `profile:${profileNames[profile]}`,
      passed: missing === undefined,
      message: missing ? `The first permit that is missing is ${missing.name}.` : 'All permits are there.',
      advice: missing ? `Add ${missing.name} to the role of our user, or give it the role SuperUser.` : '',
    });
  }
  return findings;
}

function permitFinding(permit: Permit, roles: readonly GrantedRole[]): Finding {
  const found = holders(permit, roles);
  const everywhere = found.find((role) => role.on === undefined);
  if (everywhere) return { check: `perm:${permit.name}`, passed: true, message: `Given by role ${everywhere.name}.`, advice: '' };
  const first = found[0];
  if (first) {
    return {
      check: `perm:${permit.name}`,
      passed: true,
      message: `Given by role ${first.name}, but only on ${found.map((role) => role.on).join(', ')}; VMs elsewhere cannot be protected.`,
      advice: '',
    };
  }
  return {
    check: `perm:${permit.name}`,
    passed: false,
    message: `No role of our user has ${permit.name}, needed for ${permit.neededFor}.`,
    advice: `Add ${permit.name} to the role of our user.`,
  };
}

function holders(permit: Permit, roles: readonly GrantedRole[]): readonly GrantedRole[] {
  return roles.filter((role) => role.permits.includes(permit.name));
}
