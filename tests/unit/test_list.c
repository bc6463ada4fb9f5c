#include "test.h"

#include "base/list.h"

struct item {
    int value;
    struct list node;
};

static void check(struct list *head, const int *want, size_t count)
{
    size_t i = 0;
    for (struct list *n = head->next; n != head; n = n->next, i++) {
        ASSERT_TRUE(i < count);
        ASSERT_INT(container_of(n, struct item, node)->value, want[i]);
        ASSERT_TRUE(n->next->prev == n && n->prev->next == n);
    }
    ASSERT_INT(i, count);
    ASSERT_INT(list_empty(head), count == 0);
}

static void fill(struct list *head, struct item *items, int first, int count)
{
    list_init(head);
    for (int i = 0; i < count; i++) {
        items[i].value = first + i;
        list_append(head, &items[i].node);
    }
}

TEST(list_appends_and_takes_in_order)
{
    struct list head;
    struct item items[3];
    fill(&head, items, 1, 3);
    check(&head, (int[]){1, 2, 3}, 3);
    for (int i = 1; i <= 3; i++) {
        ASSERT_INT(container_of(list_take(&head), struct item, node)->value, i);
    }
    ASSERT_TRUE(list_take(&head) == NULL);
    check(&head, NULL, 0);
}

TEST(list_removes_anywhere_and_twice)
{
    struct list head;
    struct item items[4];
    fill(&head, items, 1, 4);
    list_remove(&items[1].node);
    list_remove(&items[1].node);
    check(&head, (int[]){1, 3, 4}, 3);
    list_remove(&items[3].node);
    list_remove(&items[0].node);
    check(&head, (int[]){3}, 1);
    list_append(&head, &items[0].node);
    check(&head, (int[]){3, 1}, 2);
}

TEST(list_splices_all_to_the_end)
{
    struct list a, b;
    struct item first[2], second[3];
    fill(&a, first, 1, 2);
    fill(&b, second, 3, 3);
    list_splice(&a, &b);
    check(&a, (int[]){1, 2, 3, 4, 5}, 5);
    check(&b, NULL, 0);
    list_splice(&a, &b);
    check(&a, (int[]){1, 2, 3, 4, 5}, 5);
    list_splice(&b, &a);
    check(&b, (int[]){1, 2, 3, 4, 5}, 5);
    check(&a, NULL, 0);
}
