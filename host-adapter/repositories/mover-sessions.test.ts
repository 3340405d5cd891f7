import { generateKeyPairSync } from 'node:crypto';
import { moverError } from '../testing/fake-repository';
import type { MoverClient } from '../registry/mover-connections';
import { MoverSessions } from './mover-sessions';

/** A mover that lost its lease on the repository a moment ago, as far as sessions see it. */
function moverWithout(session: { state: string } | undefined) {
  const asked: string[] = [];
  let isAttached = false;
  const call = (method: string): Promise<object> => {
    asked.push(method);
    if (!isAttached || !session) return Promise.reject(moverError('SESSION_NOT_FOUND', 'NOT_FOUND'));
    return Promise.resolve({ state: session.state, point: { pointId: 'p' } });
  };
  const client = { id: 'mover-1', sessions: { call } } as unknown as MoverClient;
  const one = () => Promise.resolve(client);
  const at = (repositoryId: string, moverId: string) => {
    asked.push(`attach ${repositoryId} ${moverId}`);
    isAttached = true;
    return one();
  };
  const sessions = new MoverSessions(
    { at },
    { of: one, lastKnown: one },
    () => generateKeyPairSync('ed25519').privateKey,
    () => new Date(),
  );
  return { sessions, asked };
}

const at = { sessionId: 's', repositoryId: 'r' };
const content = { point: {}, configuration: '' };

describe('sessions of a mover that has to attach the repository again', () => {
  it.each([
    ['renewed', 'RenewSession', ({ sessions }: ReturnType<typeof moverWithout>) => sessions.renew('mover-1', at), undefined],
    [
      'committed',
      'CommitSession',
      ({ sessions }: ReturnType<typeof moverWithout>) => sessions.commit('mover-1', at, content, new AbortController().signal),
      { pointId: 'p' },
    ],
    ['found committed', 'GetSession', ({ sessions }: ReturnType<typeof moverWithout>) => sessions.isCommitted('mover-1', at), true],
  ])('are %s once it has it', async (_, method, work, result) => {
    const mover = moverWithout({ state: 'SESSION_STATE_COMMITTED' });
    expect(await work(mover)).toEqual(result);
    expect(mover.asked).toEqual([method, 'attach r mover-1', method]);
  });

  it('are opened once it has it, also when it lost it just after it had it', async () => {
    const asked: string[] = [];
    let isLost = true;
    const call = (method: string): Promise<object> => {
      asked.push(method);
      return isLost ? Promise.reject(moverError('REPOSITORY_NOT_FOUND', 'NOT_FOUND')) : Promise.resolve({});
    };
    const client = { id: 'mover-1', dataEndpoints: ['mover:1'], sessions: { call } } as unknown as MoverClient;
    const one = () => Promise.resolve(client);
    const attach = () => {
      isLost = asked.length === 0;
      asked.push('attach');
      return one();
    };
    const sessions = new MoverSessions(
      { at: attach },
      { of: one, lastKnown: one },
      () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
      () => new Date(),
    );
    const terms = { ...at, kind: 'backup' as const, pointIds: [] };
    expect(await sessions.open('mover-1', terms, false)).toMatchObject({ endpoints: ['mover:1'], sessionId: 's' });
    expect(asked).toEqual(['attach', 'OpenSession', 'attach', 'OpenSession']);
  });

  it('are not committed when it does not know them then', async () => {
    const { sessions } = moverWithout(undefined);
    expect(await sessions.isCommitted('mover-1', at)).toBe(false);
    await expect(sessions.commit('mover-1', at, content, new AbortController().signal)).rejects.toMatchObject({
      code: 'SESSION_NOT_FOUND',
    });
  });
});
