import { ControlError, type ControlRoute } from '../engine/control/control-route';
import type { LabNetworks } from './lab-networks';
import type { PortBlock } from './cluster-filter';

/** What the control endpoint can do to the lab's networks; every route answers 409 in a lab without any. */
export function networkControls(
  networks: LabNetworks | undefined,
  machines: () => readonly { readonly id: string; readonly name: string }[],
): ControlRoute[] {
  const required = (): LabNetworks => {
    if (networks === undefined) {
      throw new ControlError(409, 'this lab stands on loopback: it has no networks');
    }
    return networks;
  };
  const vmId = (name: string): string => {
    const vm = machines().find((candidate) => candidate.id === name || candidate.name === name);
    if (!vm) {
      throw new ControlError(404, `no VM ${name}`);
    }
    return vm.id;
  };
  return [
    { method: 'GET', pattern: '/network', does: 'addresses of the server side and of the clusters', handle: () => required().access },
    {
      method: 'POST',
      pattern: '/vms/:vm/network',
      does: 'pulls the cables of a worker VM that runs, or plugs them in again: {cutOff}',
      handle: async ([name = ''], body) => {
        await required().cutOffVm(vmId(name), body['cutOff'] === true);
      },
    },
    {
      method: 'POST',
      pattern: '/clusters/:cluster/network',
      does: 'cuts a cluster with a network of its own off the server side, or connects it again: {cutOff}',
      handle: async ([name = ''], body) => {
        await required().cutOffCluster(name, body['cutOff'] === true);
      },
    },
    {
      method: 'POST',
      pattern: '/clusters/:cluster/network/blocks',
      does: 'what guests of the cluster cannot reach from now on, instead of what it was: {blocks: [{port, at: server|hosts, how: drop|reject, protocol?: tcp|udp}]}',
      handle: async ([name = ''], body) => {
        await required().block(name, requireBlocks(body['blocks']));
      },
    },
  ];
}

function requireBlocks(value: unknown): PortBlock[] {
  const isBlock = (block: Partial<PortBlock>): block is PortBlock =>
    Number.isInteger(block.port) &&
    (block.at === 'server' || block.at === 'hosts') &&
    (block.how === 'drop' || block.how === 'reject') &&
    [undefined, 'tcp', 'udp'].includes(block.protocol);
  if (!Array.isArray(value) || !(value as Partial<PortBlock>[]).every(isBlock)) {
    throw new ControlError(400, '"blocks" must be a list of {port, at: server|hosts, how: drop|reject, protocol?: tcp|udp}');
  }
  return value as PortBlock[];
}
