/** Entry of a lane thread: runs one lane for each task that has a share in this thread. Started by LanePool only. */
import { parentPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { CommonErrors } from '../../common/errors/common-errors';
import { errorToMessage } from '../errors/error-message';
import { LaneRunner } from './lane-runner';
import type { OwnIdentity } from './lane-runner';
import type { AddressNotice, IdentityNotice, LaneReply, LaneRequest } from './lane-messages';

const lanes = new Map<number, LaneRunner>();
const own: OwnIdentity = { material: undefined };
const port = parentPort as MessagePort;

port.on('message', (message: LaneRequest | IdentityNotice | AddressNotice) => {
  if (message.step === 'identity') own.material = message.identity;
  else if (message.step === 'address') lanes.get(message.lane)?.changeAddress(message.address);
  else void answer(message).then((reply) => port.postMessage(reply));
});

async function answer(message: LaneRequest): Promise<LaneReply> {
  const { request, lane } = message;
  try {
    if (message.step === 'close') {
      await lanes.get(lane)?.close();
      lanes.delete(lane);
      return { request, value: undefined };
    }
    let runner = lanes.get(lane);
    if (!runner) {
      if (message.step !== 'open') throw CommonErrors.CANCELLED({ what: 'the lane' });
      runner = new LaneRunner(own);
      lanes.set(lane, runner);
    }
    return { request, value: await runner.step(message) };
  } catch (error) {
    return { request, error: errorToMessage(error, `lane step ${message.step}`) };
  }
}
