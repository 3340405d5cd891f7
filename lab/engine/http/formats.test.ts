import { entityToJson, jsonToEntity } from './json-format';
import { entityToXml, xmlToEntity } from './xml-format';

describe('XML and JSON of the API', () => {
  const disk = {
    id: 'd',
    href: '/ovirt-engine/api/disks/d',
    name: 'a<b>&"c"',
    provisioned_size: 1024,
    sparse: true,
    storage_domains: [{ id: 'sd', href: '/ovirt-engine/api/storagedomains/sd' }],
  };

  it('writes XML with ids as attributes, links last, and lists wrapped', () => {
    const xml = entityToXml('disk', disk);
    expect(xml).toContain('<disk id="d" href="/ovirt-engine/api/disks/d"><actions>');
    expect(xml).toContain('<name>a&lt;b&gt;&amp;&quot;c&quot;</name><provisioned_size>1024</provisioned_size><sparse>true</sparse>');
    expect(xml).toContain('<storage_domains><storage_domain id="sd" href="/ovirt-engine/api/storagedomains/sd"/></storage_domains>');
    expect(xml).toContain('<link href="/ovirt-engine/api/disks/d/disksnapshots" rel="disksnapshots"/>');
  });

  it('writes JSON lists wrapped twice', () => {
    expect(entityToJson('disk', disk, false)).toMatchObject({
      provisioned_size: '1024',
      sparse: 'true',
      storage_domains: { storage_domain: [{ id: 'sd' }] },
    });
    expect(entityToJson('vm', { os: { boot: { devices: ['hd'] } } }, false)).toEqual({ os: { boot: { devices: { device: ['hd'] } } } });
  });

  it('writes dates as numbers in JSON and as ISO texts in XML', () => {
    const backup = { creation_date: Date.UTC(2025, 0, 1) };
    expect(entityToJson('backup', backup, false)).toEqual({ creation_date: 1735689600000 });
    expect(entityToXml('backup', backup)).toContain('<creation_date>2025-01-01T00:00:00.000+00:00</creation_date>');
    expect(jsonToEntity('backup', '{"creation_date":"2025-01-01T00:00:00Z"}')).toEqual(backup);
  });

  it('carries a document of many entities inside a text', () => {
    const data = `<?xml version="1.0"?>\n${'<a b="&amp;">\r\n</a>'.repeat(5_000)}`;
    const vm = { initialization: { configuration: { type: 'ovf', data } } };
    expect(xmlToEntity('vm', entityToXml('vm', vm))).toEqual(vm);
    expect(
      xmlToEntity('vm', `<vm><initialization><configuration><data>x&#10;y&#x41;</data></configuration></initialization></vm>`),
    ).toEqual({
      initialization: { configuration: { data: 'x\nyA' } },
    });
  });

  it.each([
    ['another root', '<disk/>'],
    ['an unknown element', '<vm><nam>x</nam></vm>'],
    ['a wrong list element', '<vm><nics><vm/></nics></vm>'],
    ['a broken document', '<vm><name></vm>'],
    ['a wrong enum', '<vm><status>fine</status></vm>'],
    ['a wrong number', '<vm><memory>1e3</memory></vm>'],
  ])('refuses XML with %s', (_, text) => {
    expect(() => xmlToEntity('vm', text)).toThrow(expect.objectContaining({ status: 400 }) as Error);
  });

  it('ignores links and nulls that a client sends back', () => {
    expect(jsonToEntity('vm', '{"name":"x","comment":null,"link":[{"href":"/a","rel":"b"}],"actions":{}}')).toEqual({ name: 'x' });
  });

  it('does not let a view name a field that the API lacks', () => {
    expect(() => entityToJson('vm', { nonsense: 1 }, false)).toThrow('no field nonsense');
  });
});
