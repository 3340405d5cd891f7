import type { MoverClient } from '../registry/mover-connections';
import { moverError } from '../testing/fake-repository';
import { askAgainWhereLost } from './repository-movers';

describe('a mover that loses a repository between the look and the question', () => {
  const mover = { id: 'mover-1' } as MoverClient;
  const asking = async (...answers: (string | Error)[]) => {
    const asked: string[] = [];
    const reach = () => {
      asked.push('reach');
      return Promise.resolve(mover);
    };
    const ask = () => {
      asked.push('ask');
      const answer = answers.shift() ?? '';
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    };
    const [end] = await Promise.allSettled([askAgainWhereLost(reach, ask)]);
    return { asked, end };
  };
  const lost = moverError('REPOSITORY_NOT_FOUND', 'NOT_FOUND');
  const other = moverError('REPOSITORY_IO', 'UNAVAILABLE');

  it('is asked once more, when it has it again', async () => {
    expect(await asking(lost, 'points')).toEqual({
      asked: ['reach', 'ask', 'reach', 'ask'],
      end: { status: 'fulfilled', value: 'points' },
    });
  });

  it('is not asked for ever, nor after another failure', async () => {
    expect(await asking(lost, lost, 'points')).toEqual({
      asked: ['reach', 'ask', 'reach', 'ask'],
      end: { status: 'rejected', reason: lost },
    });
    expect(await asking(other, 'points')).toEqual({ asked: ['reach', 'ask'], end: { status: 'rejected', reason: other } });
  });
});
