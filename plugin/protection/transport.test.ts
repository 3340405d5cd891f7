import { CommonErrors } from '../../common/errors/common-errors';
import { defineErrors } from '../../common/errors/define-errors';
import { ProtectionErrors } from './protection-errors';
import { planAttachedDisks } from './strategy';
import { fallbackTransport, firstTransport } from './transport';

const { IMAGE_UNREACHABLE, IMAGE_CERTIFICATE_REJECTED } = defineErrors({
  IMAGE_UNREACHABLE: { kind: 'operational', retry: 'same-request', status: 'UNAVAILABLE', message: () => 'away' },
  IMAGE_CERTIFICATE_REJECTED: { kind: 'failure', retry: 'after-operator', status: 'FAILED_PRECONDITION', message: () => 'forged' },
});

describe('the way that a run begins with', () => {
  it.each([
    ['auto', 'image-transfer', ''],
    ['image-transfer', 'image-transfer', ''],
    ['disk-attachment', 'disk-attachment', 'transport-attachment'],
  ] as const)('%s: %s', (wanted, transport, reason) => {
    expect(firstTransport(wanted)).toEqual({ transport, reason });
  });
});

describe('the other way', () => {
  const unreachable = IMAGE_UNREACHABLE({});

  it.each([
    ['no image service answers', unreachable],
    ['the engine finds none that serves the disk', ProtectionErrors.TRANSFER_NOT_STARTED({ diskId: 'd', phase: 'cancelled_system' })],
  ])('is taken when %s', (_name, failure) => {
    expect(fallbackTransport({ wanted: 'auto', failure, workerCanAttach: true })).toEqual({
      transport: 'disk-attachment',
      reason: 'transport-fallback',
    });
  });

  it.each([
    ['image transfer is what was asked for', 'image-transfer', unreachable, true],
    ['attachment is what failed', 'disk-attachment', unreachable, true],
    ['no worker VM can attach', 'auto', unreachable, false],
    ['the certificate is refused: that is to be looked at', 'auto', IMAGE_CERTIFICATE_REJECTED({}), true],
    ['the repository is the trouble', 'auto', CommonErrors.PEER_UNAVAILABLE({ peer: 'mover' }), true],
    ['the failure is a defect', 'auto', new TypeError('x'), true],
  ] as const)('is not taken when %s', (_name, wanted, failure, workerCanAttach) => {
    expect(fallbackTransport({ wanted, failure, workerCanAttach })).toBeUndefined();
  });
});

it('disks that are attached are read in full once, then compared by digest', () => {
  const disks = [
    { id: 'a', format: 'cow' },
    { id: 'b', format: 'raw' },
  ];
  const base = { pointId: 'p', checkpointId: 'c', diskIds: ['a'] };
  expect(planAttachedDisks({ disks, base: undefined, forceFull: false }).map((d) => d.reason)).toEqual(['first-backup', 'first-backup']);
  expect(planAttachedDisks({ disks, base, forceFull: false })).toEqual([
    { diskId: 'a', mode: 'digest-compare', reason: 'cbt-attachment' },
    { diskId: 'b', mode: 'full', reason: 'cbt-new-disk' },
  ]);
  expect(planAttachedDisks({ disks, base, forceFull: true }).map((d) => `${d.mode} ${d.reason}`)).toEqual([
    'full forced-full',
    'full forced-full',
  ]);
});
