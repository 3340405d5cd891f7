import { errorOfAnswer, isWithoutReason } from './engine-fault';

const json = (status: number, body: object) => ({ status, contentType: 'application/json', text: JSON.stringify(body) });
const fault = (status: number, detail: string, reason = 'Operation Failed') => json(status, { reason, detail });
const codeOf = (answer: Parameters<typeof errorOfAnswer>[2]) => errorOfAnswer('engine', 'POST /vms/1/backups', answer).code;

describe('errorOfAnswer', () => {
  it('reads a bare fault and one inside an action', () => {
    const bare = errorOfAnswer('engine', 'POST /vms', fault(409, '[Cannot add VM. The VM name is already in use.]'));
    expect(bare).toMatchObject({
      code: 'ENGINE_REFUSED',
      meta: { httpStatus: 409, detail: 'Cannot add VM. The VM name is already in use.' },
    });
    const inAction = json(409, { status: 'failed', fault: { reason: 'Operation Failed', detail: '[Cannot run VM. VM is locked.]' } });
    expect(codeOf(inAction)).toBe('ENGINE_CONFLICT');
  });

  it.each([
    'Cannot backup VM: The following disks are locked: web_Disk1. Please try again in a few minutes.',
    'The following disks are locked: web_Disk1. Try again in a few minutes',
    'Cannot remove Snapshot. The VM is performing an operation on a Snapshot. Please wait for the operation to finish, and try again.',
    'Cannot add Snapshot. Snapshot is currently being created for VM web.',
    'A snapshot operation is in progress for VM web',
    'Cannot transfer image. Disk web_Disk1 is being transferred.',
    'VM web is being migrated',
    'Cannot backup VM. The VM is during a backup operation.',
    'Cannot attach Virtual Disk. Related operation is currently in progress. Please try again later.',
    'Cannot stop VM backup. There are active image transfers for VM backup b1',
    'Cannot transfer image. VM backup b1 is not ready',
  ])('takes "%s" as a conflict that passes', (detail) => {
    const error = errorOfAnswer('engine', 'POST /x', fault(409, `[${detail}]`));
    expect(error).toMatchObject({ code: 'ENGINE_CONFLICT', retry: 'after-delay', status: 'ABORTED' });
    expect(error.retryDelayMs).toBeGreaterThan(0);
  });

  it.each([
    [409, 'Cannot add VM. The VM name is already in use.'],
    [409, 'Cannot attach Virtual Disk. The disk web_Disk1 is already attached to the VM'],
    [409, 'VM web is in the middle of a snapshot preview'],
    [409, 'MAC Address 56:6f:1a:2b:00:01 is already in use'],
    [400, 'The specified checkpoint c0 does not exist'],
    [500, 'The following attached disks are in ILLEGAL status: web_Disk1. Remove them and try again'],
  ])('gives up on %i "%s"', (status, detail) => {
    expect(codeOf(fault(status, `[${detail}]`))).toBe('ENGINE_REFUSED');
  });

  it('waits after a failed hot plug, whatever its status', () => {
    expect(codeOf(fault(400, '[Failed to hot-plug disk web_Disk1 to VM proxy]'))).toBe('ENGINE_CONFLICT');
  });

  it('tells an absent entity from an engine that starts', () => {
    expect(codeOf({ status: 404, contentType: '', text: '' })).toBe('ENGINE_NOT_FOUND');
    expect(codeOf(fault(404, '[Entity not found: x]'))).toBe('ENGINE_NOT_FOUND');
    expect(codeOf({ status: 404, contentType: 'text/html', text: '<html>Not Found</html>' })).toBe('ENGINE_UNAVAILABLE');
    expect(codeOf({ status: 503, contentType: 'text/html', text: '<html>Service Unavailable</html>' })).toBe('ENGINE_UNAVAILABLE');
    expect(codeOf({ status: 502, contentType: '', text: '' })).toBe('ENGINE_UNAVAILABLE');
  });

  it('tells our mistakes, permissions and inner failures apart', () => {
    expect(codeOf(fault(400, 'For correct usage, see: …', 'Request syntactically incorrect.'))).toBe('ENGINE_REQUEST_INVALID');
    expect(codeOf(fault(400, 'Vm [name] required for add', 'Incomplete parameters'))).toBe('ENGINE_REQUEST_INVALID');
    expect(codeOf(fault(403, '[User is not authorized to perform this action.]'))).toBe('ENGINE_PERMISSION_MISSING');
    expect(codeOf(fault(500, '[Internal Engine Error]'))).toBe('ENGINE_INTERNAL_FAILURE');
  });

  it('knows a refusal without a reason', () => {
    expect(isWithoutReason(errorOfAnswer('engine', 'POST /x', fault(400, '[]')))).toBe(true);
    expect(isWithoutReason(errorOfAnswer('engine', 'POST /x', fault(400, '[Cannot do it]')))).toBe(false);
  });

  it('keeps tickets out of the message', () => {
    const error = errorOfAnswer('engine', 'POST /x', fault(409, '[see https://h:54322/images/0f3c9a3e-1111-4222-8333-444455556666]'));
    expect(JSON.stringify(error) + error.message).not.toContain('0f3c9a3e');
  });
});
