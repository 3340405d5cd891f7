import fc from 'fast-check';
import { type ApiObject, type ApiValue, compact } from './api-object';
import { entityToJson, jsonToEntity } from './json-format';
import { apiType, type Field, type FieldType } from './schema';
import { entityToXml, xmlToEntity } from './xml-format';

/** Any entity of a type, in the API's names and natural types; texts are such as both formats can carry. */
function anyEntity(type: FieldType, depth: number): fc.Arbitrary<ApiObject> {
  const fields = [...apiType(type).fields].filter(([, field]) => depth > 0 || !['object', 'list'].includes(field.kind));
  const shape = Object.fromEntries(fields.map(([name, field]) => [name, fc.option(anyValue(field, depth), { nil: undefined, freq: 2 })]));
  return fc.record(shape).map((entity) => compact(entity));
}

const anyText = fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll(/[\u0000-\u0008\u000B\u000C\u000E-\u001F\uFFFE\uFFFF]/g, ''));

function anyValue(field: Field, depth: number): fc.Arbitrary<ApiValue> {
  switch (field.kind) {
    case 'int':
      return fc.maxSafeInteger();
    case 'bool':
      return fc.boolean();
    case 'date':
      return fc.integer({ min: 0, max: Date.UTC(2100, 0, 1) });
    case 'dec':
      return fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => (Object.is(value, -0) ? 0 : value));
    case 'enum':
      return fc.constantFrom(...field.values);
    case 'object':
      return field.type === 'opaque' ? fc.constant({}) : anyEntity(field.type, depth - 1);
    case 'list':
      return field.type === 'opaque' ? fc.constant([]) : fc.array(anyEntity(field.type, depth - 1), { maxLength: 3 });
    case 'strings':
      return fc.array(anyText, { maxLength: 3 });
    default:
      return anyText;
  }
}

describe('one schema for JSON and XML', () => {
  it.each(['vm', 'disk', 'disk_attachment', 'nic', 'backup', 'image_transfer', 'snapshot', 'event', 'action', 'storage_domain'] as const)(
    'reads back every %s that it writes',
    (type) => {
      fc.assert(
        fc.property(anyEntity(type, 2), (entity) => {
          expect(jsonToEntity(type, JSON.stringify(entityToJson(type, entity, false)))).toEqual(entity);
          expect(xmlToEntity(type, entityToXml(type, entity))).toEqual(entity);
        }),
        { numRuns: 25 },
      );
    },
  );
});
