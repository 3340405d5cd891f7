import { LockManager } from './lock-manager';

describe('object locks', () => {
  it('lets shared holders be together and keeps an exclusive one alone', () => {
    const locks = new LockManager();
    expect(locks.tryAcquire({ holder: 'a', message: 'DISK_IS_BEING_TRANSFERRED', shared: ['disk:1'] })).toBeUndefined();
    expect(locks.tryAcquire({ holder: 'b', message: 'DISK_IS_LOCKED', shared: ['disk:1'] })).toBeUndefined();
    expect(locks.tryAcquire({ holder: 'c', message: 'DISK_IS_LOCKED', exclusive: ['disk:1'] })).toBe('DISK_IS_BEING_TRANSFERRED');
    locks.release('a');
    locks.release('b');
    expect(locks.tryAcquire({ holder: 'c', message: 'DISK_IS_LOCKED', exclusive: ['disk:1'] })).toBeUndefined();
    expect(locks.tryAcquire({ holder: 'd', message: 'OBJECT_LOCKED', shared: ['disk:1'] })).toBe('DISK_IS_LOCKED');
  });

  it('takes all or nothing', () => {
    const locks = new LockManager();
    locks.tryAcquire({ holder: 'a', message: 'VM_IS_DURING_BACKUP', exclusive: ['disk:2'] });
    expect(locks.tryAcquire({ holder: 'b', message: 'OBJECT_LOCKED', exclusive: ['disk:1', 'disk:2'] })).toBe('VM_IS_DURING_BACKUP');
    expect(locks.list().map((lock) => lock.name)).toEqual(['disk:2']);
  });

  it('lets a holder take more, and hands it nothing but its own back', () => {
    const locks = new LockManager();
    locks.tryAcquire({ holder: 'a', message: 'VM_IS_DURING_BACKUP', exclusive: ['vm:1'] });
    expect(locks.tryAcquire({ holder: 'a', message: 'DISK_IS_LOCKED', exclusive: ['vm:1', 'disk:1'] })).toBeUndefined();
    locks.tryAcquire({ holder: 'b', message: 'OBJECT_LOCKED', shared: ['disk:9'] });
    expect(locks.blocker('vm:1', false)).toBe('DISK_IS_LOCKED');
    expect(locks.blocker('vm:1', false, 'a')).toBeUndefined();
    locks.release('a');
    expect(locks.list().map((lock) => lock.name)).toEqual(['disk:9']);
  });
});
